package cliutil

import (
	"log/slog"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// WarnFileLimit logs a warning if the system's limit on open files is too low for maxConnections connections
// of a server and otherFiles files.
func WarnFileLimit(log *slog.Logger, maxConnections, otherFiles int) {
	need := maxConnections + otherFiles
	if limit := vfs.OpenFileLimit(); limit > 0 && limit < need {
		log.Warn("the limit on open files is too low for --max-connections: raise it (ulimit -n, or systemd's LimitNOFILE), or accept fewer connections",
			"limit", limit, "max_connections", maxConnections, "needed", need)
	}
}
