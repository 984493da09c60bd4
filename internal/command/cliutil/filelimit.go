package cliutil

import (
	"log/slog"

	"github.com/go-partd/partd/internal/disk/vfs"
)

// WarnFileLimit logs a warning if the process's limit on open files is too low for a server's maxConnections
// connections and otherFiles other files.
func WarnFileLimit(log *slog.Logger, maxConnections, otherFiles int) {
	need := maxConnections + otherFiles
	if limit := vfs.OpenFileLimit(); limit > 0 && limit < need {
		log.Warn("the limit on open files is too low for --max-connections: raise it (ulimit -n, or systemd's LimitNOFILE), or accept fewer connections",
			"limit", limit, "max_connections", maxConnections, "needed", need)
	}
}
