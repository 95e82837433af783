// Package standalone runs everything that one machine needs as child processes of one command: the official Temporal
// server in its single-process mode, with its state in one file, and a remora-worker.
//
// The children end when this process ends, however that happens. A child that dies is started again. Temporal outlives
// the worker at the end, so that what the worker has to say while it hands over is heard. Nothing in the state file is
// irreplaceable: what exists is in the repository, and a switch has its journal beside the data.
package standalone
