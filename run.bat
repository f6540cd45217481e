@echo off
rem Starts Studio. Everything is in studio\bootstrap.py; this only finds a Python for it.
setlocal
for %%P in ("py -3" "python" "python3") do (
    %%~P -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>nul && set "PYTHON=%%~P" && goto found
)
echo studio: no Python 3.11 or newer found. Install one from https://www.python.org/downloads, then start again. 1>&2
exit /b 2
:found
%PYTHON% -I "%~dp0studio\bootstrap.py" %*
exit /b %errorlevel%
