package servercli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/remote"
)

// slowWriter is a writer whose first Write waits.
type slowWriter struct {
	bytes.Buffer
	begun, end chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.Len() == 0 {
		close(w.begun)
		<-w.end
	}
	return w.Buffer.Write(p)
}

// TestAuditQueue checks that requests do not wait for a slow audit log, and that the log counts lost records.
func TestAuditQueue(t *testing.T) {
	out := &slowWriter{begun: make(chan struct{}), end: make(chan struct{})}
	var messages bytes.Buffer
	a, err := newAuditLog("-", out, cliutil.NewLog("text", &messages))
	if err != nil {
		t.Fatal(err)
	}
	a.record(remote.AuditRecord{Time: time.Now()})
	<-out.begun
	const extra = 100
	for i := range maxAuditQueue + extra {
		a.record(remote.AuditRecord{Request: uint64(i)}) // the test would not end if this waited
	}
	close(out.end)
	a.close()
	if n := strings.Count(out.String(), "\n"); n != 1+maxAuditQueue {
		t.Errorf("%d records were written, want %d", n, 1+maxAuditQueue)
	}
	if !strings.Contains(messages.String(), fmt.Sprint("lost=", extra)) {
		t.Errorf("the log is %s, want %d lost records", messages.String(), extra)
	}
}
