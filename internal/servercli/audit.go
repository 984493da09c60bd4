package servercli

import (
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/go-partd/partd/remote"
)

const maxAuditQueue = 8192 // records that wait to be written; further ones are lost and counted

// auditLog writes audit records as lines of JSON. Requests never wait for it.
type auditLog struct {
	name    string // "-" is standard error
	out     io.Writer
	file    *os.File // out, or nil for standard error
	log     *slog.Logger
	records chan remote.AuditRecord
	lost    atomic.Int64
	reopen  atomic.Bool // the next write opens the file again
	stop    chan struct{}
	done    sync.WaitGroup
}

// newAuditLog opens the audit log name and begins to write it.
func newAuditLog(name string, stderr io.Writer, log *slog.Logger) (*auditLog, error) {
	a := &auditLog{name: name, out: stderr, log: log, records: make(chan remote.AuditRecord, maxAuditQueue), stop: make(chan struct{})}
	if err := a.open(); err != nil {
		return nil, err
	}
	a.done.Go(a.run)
	return a, nil
}

func (a *auditLog) open() error {
	if a.name == "-" {
		return nil
	}
	f, err := os.OpenFile(a.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if a.file != nil {
		_ = a.file.Close() // each write has returned its error
	}
	a.out, a.file = f, f
	return nil
}

// record is for ServerOptions.Audit.
func (a *auditLog) record(r remote.AuditRecord) {
	select {
	case a.records <- r:
	default:
		a.lost.Add(1)
	}
}

// close writes the remaining records. Later ones are lost.
func (a *auditLog) close() {
	close(a.stop)
	a.done.Wait()
}

func (a *auditLog) run() {
	var batch []byte
	count := int64(0)
	for {
		var r remote.AuditRecord
		select {
		case r = <-a.records:
		case <-a.stop:
			if len(a.records) == 0 {
				return
			}
			continue
		}
		line, _ := json.Marshal(r) // cannot fail: the fields are texts and numbers
		batch = append(append(batch, line...), '\n')
		if count++; len(a.records) == 0 || len(batch) > 64<<10 {
			a.write(batch, count)
			batch, count = batch[:0], 0
		}
	}
}

// write writes count lines. An error says how many records were lost.
func (a *auditLog) write(batch []byte, count int64) {
	if a.reopen.Swap(false) {
		if err := a.open(); err != nil {
			a.log.Error("cannot open the audit log again: the previous file stays in use", "error", err)
		}
	}
	n, err := a.out.Write(batch)
	if err != nil {
		a.lost.Add(count)
		if n > 0 {
			_, _ = a.out.Write([]byte{'\n'}) // end the line that was cut off
		}
	}
	if lost := a.lost.Swap(0); lost > 0 {
		a.log.Error("requests are missing in the audit log", "lost", lost, "error", err)
	}
}
