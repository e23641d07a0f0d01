from collections import OrderedDict
from collections.abc import Callable


class Recent:
    """What a function returned for its last few arguments.

    Unlike ``functools.lru_cache`` it can be pickled with the object that holds it, as for workers; its content stays
    behind.

    Args:
        function (Callable): Of one hashable argument.
        size (int): Results that are kept; 0 keeps none.
    """

    def __init__(self, function: Callable, size: int) -> None:
        self.function, self.size, self._kept = function, size, OrderedDict()

    def __call__(self, argument: object) -> object:
        """The function's result, the very object of the last time if it is still kept."""
        if argument in self._kept:
            self._kept.move_to_end(argument)
            return self._kept[argument]
        result = self.function(argument)
        if self.size:
            self._kept[argument] = result
        if len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return result

    def __getstate__(self) -> dict:
        return dict(self.__dict__, _kept=OrderedDict())
