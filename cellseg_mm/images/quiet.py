import logging

import cv2


def silence_readers() -> None:
    """Have tifffile and OpenCV log nothing: what matters about a broken file comes as an error, in one line of ours."""
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    set_log_level = cv2.setLogLevel if hasattr(cv2, 'setLogLevel') else cv2.utils.logging.setLogLevel  # OpenCV 4 or 5
    set_log_level(0)
