# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A Streamlit app with st.login; who is not logged in sees the demo's app."""

import runpy
from pathlib import Path

import streamlit as st

if st.user.is_logged_in:
    st.write(f"Logged in as {st.user.name}")
else:
    st.button("Log in", on_click=st.login)
runpy.run_path(str(Path(__file__).with_name("ocapistaine.py")))
