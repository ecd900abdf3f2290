"""Whether what one stage returns is what the next one takes, as far as annotations tell at run time.

A type checker knows more. This refuses what can be seen to be wrong and lets pass what cannot be judged: protocols,
type variables, the arguments of generic classes of other libraries.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

__all__ = ["fits", "names_of"]

_PROMOTED: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}
"""What type checkers accept for these classes although it is none of them."""


def fits(returned: Any, taken: Any) -> bool:
    """False if a value of the one annotation cannot be meant by the other."""
    returned, taken = _plain(returned), _plain(taken)
    if _is_open(returned) or _is_open(taken) or taken is object:
        return True
    if _is_union(returned):
        return all(fits(one, taken) for one in get_args(returned))
    if _is_union(taken):
        return any(fits(returned, one) for one in get_args(taken))
    if get_origin(returned) is Literal:
        return all(_literal_fits(value, taken) for value in get_args(returned))
    if get_origin(taken) is Literal:
        return False
    return _class_fits(returned, taken)


def names_of(returned: Any, taken: Any) -> tuple[str, str]:
    """What an error calls the two; with their modules where they would look the same without."""
    names = _name(returned), _name(taken)
    return names if names[0] != names[1] else (inspect.formatannotation(returned), inspect.formatannotation(taken))


def _plain(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):  # a NewType
            annotation = annotation.__supertype__
        else:
            return NoneType if annotation is None else annotation


def _is_open(annotation: Any) -> bool:
    """True for an annotation that may be anything: Any, a type variable, a text, a protocol."""
    if annotation is Any or annotation is inspect.Parameter.empty or isinstance(annotation, TypeVar | str):
        return True
    return getattr(get_origin(annotation) or annotation, "_is_protocol", False)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _literal_fits(value: object, taken: Any) -> bool:
    if get_origin(taken) is Literal:
        return value in get_args(taken)
    return fits(type(value), taken)


def _class_fits(returned: Any, taken: Any) -> bool:
    from_class, to_class = get_origin(returned) or returned, get_origin(taken) or taken
    if not isinstance(from_class, type) or not isinstance(to_class, type):
        return True
    if is_typeddict(to_class):
        return issubclass(from_class, Mapping)  # its members are left to type checkers
    if issubclass(from_class, _PROMOTED.get(to_class, ())):
        return True
    if not issubclass(from_class, to_class):
        return False
    return _arguments_fit(from_class, get_args(returned), to_class, get_args(taken))


def _arguments_fit(from_class: type, returned: tuple[Any, ...], to_class: type, taken: tuple[Any, ...]) -> bool:
    """What is inside of containers; in those of other libraries the arguments may mean anything."""
    if not returned or not taken or not _is_container(from_class) or not _is_container(to_class):
        return True
    if from_class is tuple:
        return _tuple_fits(returned, to_class, taken)
    if issubclass(from_class, Mapping) and not issubclass(to_class, Mapping):
        returned = returned[:1]  # taken as a collection, it is one of its keys
    return len(returned) != len(taken) or all(map(fits, returned, taken))


def _tuple_fits(returned: tuple[Any, ...], to_class: type, taken: tuple[Any, ...]) -> bool:
    members = [one for one in returned if one is not ...]
    if to_class is not tuple or taken[-1] is ...:
        return all(fits(one, taken[0]) for one in members)
    return returned[-1] is ... or (len(members) == len(taken) and all(map(fits, members, taken)))


def _is_container(annotated: type) -> bool:
    return annotated.__module__ in ("builtins", "collections.abc") and issubclass(annotated, Collection | Iterable)


def _name(annotation: Any) -> str:
    if get_origin(annotation) is None and isinstance(annotation, type):
        return annotation.__name__
    return inspect.formatannotation(annotation)
