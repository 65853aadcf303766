"""``python -m mmspike COMMAND …`` is ``mmspike COMMAND …``."""

from mmspike.cli import main

if __name__ == '__main__':
    main()
