"""Makes the choice of a route again, outside of any call: it is a pure function, and all that it reads can be had."""
