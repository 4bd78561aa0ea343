"""The Streamlit workbench. It reads the dataset folder and starts long work as a process, through the CLI."""
