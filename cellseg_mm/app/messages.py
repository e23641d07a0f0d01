import gradio as gr


def in_page(message: str) -> gr.Error:
    """A message that stays in the page until the visitor closes it."""
    return gr.Error(message, duration=None, print_exception=False)
