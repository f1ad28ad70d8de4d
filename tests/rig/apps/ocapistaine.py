# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The demo's Streamlit app: small, friendly, and alive only with its WebSocket."""

import streamlit as st

st.set_page_config(page_title="Ocapistaine", page_icon="🐟")
st.title("Ocapistaine")
st.write("This page runs on a laptop. Between you and it: Traefik, the agent's proxy, and a tunnel.")

fish = st.slider("How many sardines?", min_value=0, max_value=50, value=7)
st.write(f"{fish} sardines fill {-(-fish // 6)} tins, six to a tin.")

upload = st.file_uploader("Send a file through the tunnel")
if upload is not None:
    st.write(f"{upload.name}: {upload.size} bytes arrived.")
