//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd/tables/internal/sql/database"
)

// opener opens databases. Each has a directory for data that exceeds its memory.
type opener struct {
	limits       *database.Options
	parent       string // contains the databases' directories
	hasProcesses bool   // whether each database has its own process
	count        atomic.Int64
	openIn       func(ctx context.Context, dir string) (database.Runner, error)
}

func newOpener(o *Options, parent string) *opener {
	limits := &database.Options{Memory: o.Memory, MaxTemp: o.MaxTemp, Threads: o.Threads}
	p := &opener{limits: limits, parent: parent, hasProcesses: o.Processes}
	p.openIn = func(ctx context.Context, dir string) (database.Runner, error) {
		if p.hasProcesses {
			return database.OpenProcess(ctx, limits, dir)
		}
		return database.Open(limits, dir)
	}
	return p
}

func (o *opener) newDir() string {
	return filepath.Join(o.parent, fmt.Sprintf("spill-%d", o.count.Add(1)))
}

func (o *opener) open(ctx context.Context) (database.Runner, error) { return o.openIn(ctx, o.newDir()) }

// openUnused returns an unused database. It reopens old in dir if it can, and otherwise opens a new database. On
// failure, it returns nil; the next statement then opens a database itself, and returns the error.
func (o *opener) openUnused(ctx context.Context, old database.Runner, dir string) database.Runner {
	const pause = 5 * time.Millisecond // gives a waiting statement, or Close, time to go first
	if old != nil {
		if old.Reopen(o.limits, dir) {
			return old
		}
		old.Close()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(pause):
	}
	unused, err := o.open(context.Background())
	if err != nil {
		return nil
	}
	if unused.Ready(ctx) != nil {
		unused.Close()
		return nil
	}
	return unused
}
