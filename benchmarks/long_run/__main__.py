from benchmarks.long_run.cli import main

main()
