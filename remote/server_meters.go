package remote

import (
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/internal/server/metrics"
)

// meters counts what a server does.
type meters struct {
	goOperations [lastOperation + 1]meter       // by operation; index 0 is for unknown operations
	python       [len(pythonCommands) + 1]meter // by command; index 0 is for unknown commands

	bytesSent, acceptedConns atomic.Int64
	refusedConns             atomic.Int64 // connections refused because there were too many
	evictedConns             atomic.Int64 // connections closed in favor of other peers
	faultyConns              atomic.Int64 // connections closed because the peer violated the protocol or stalled
	failedTLS                atomic.Int64 // connections with a failed TLS handshake
	wrongCredentials         atomic.Int64
	deniedRequests           atomic.Int64 // requests refused because the user lacked a right
	storeErrors              atomic.Int64
	needsReopen              atomic.Pointer[error] // error from a change that failed because the store must be reopened
	evictedSessions          atomic.Int64          // sessions forgotten in favor of other peers
}

// meter counts the requests of one kind.
type meter struct {
	durations metrics.Histogram
	failed    atomic.Int64
	received  atomic.Int64 // bytes
}

func (m *meter) observe(start time.Time, failed bool) {
	if failed {
		m.failed.Add(1)
	}
	m.durations.Observe(time.Since(start))
}

// pythonCommands lists the commands of Python's protocol, each with its own meter. Unknown commands
// share the first meter, so that peers cannot create labels.
var pythonCommands = [...]string{"syn", "append", "iset", "get", "delete", "drop", "close"}

func (m *meters) meter(op operation) *meter {
	if op > lastOperation {
		op = 0
	}
	return &m.goOperations[op]
}

// forEach calls f for each kind of request that the server has received.
func (m *meters) forEach(f func(m *meter, labels ...string)) {
	report := func(list []meter, protocol string, name func(i int) string) {
		for i := range list {
			label := "unknown"
			if i > 0 {
				label = name(i)
			}
			if list[i].durations.Count() > 0 {
				f(&list[i], "protocol", protocol, "operation", label)
			}
		}
	}
	report(m.goOperations[:], "go", func(i int) string { return operation(i).String() })
	report(m.python[:], "python", func(i int) string { return pythonCommands[i-1] })
}
