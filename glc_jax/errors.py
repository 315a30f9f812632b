"""What a user can get wrong, as exceptions that carry one clear sentence."""


class GLCError(Exception):
    """Base of every error that a user can cause; its message says what to do."""


class InputError(GLCError):
    """A picture or an argument that cannot be used."""


class BitstreamError(GLCError):
    """A .glc file that is damaged, foreign, of other weights or of a newer version."""


class WeightsError(GLCError):
    """A weights file or checkpoint that is missing, damaged, foreign or newer."""


class ConfigError(GLCError):
    """A configuration that contradicts itself, the data or the machine."""


class OutputError(GLCError):
    """A place that cannot be written to."""


class TooLargeError(GLCError):
    """A picture that needs more memory than there is, or than may be used."""
