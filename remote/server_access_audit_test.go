package remote

import (
	"bytes"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestAuditOfNothing checks that messages of a few bytes that do nothing, such as empty ones, cannot fill the disk with
// lines of the audit log.
func TestAuditOfNothing(t *testing.T) {
	for name, c := range map[string]struct {
		message   []byte
		isInvalid bool
	}{
		"empty message":   {message(""), true},
		"unknown command": {message("explode"), true},
		"missing value":   {message("append", "k"), true},
		"get no keys":     {message("get"), false},
		"append nothing":  {message("append"), false},
		"delete nothing":  {message("delete"), false},
	} {
		t.Run(name, func(t *testing.T) {
			var lines bytes.Buffer
			s, url := serve(t, partd.NewDict(), &ServerOptions{Audit: &lines})
			p := openPeer(t, url)
			for range 500 {
				p.send(c.message)
				if c.isInvalid {
					p.wantError()
				} else {
					p.wantBytes(acked)
				}
			}
			p.send(message("get", "k"))
			p.wantBytes(joinBytes(message(""), acked))
			must.Do(t, s.Shutdown(t.Context()))
			if n := bytes.Count(lines.Bytes(), []byte{'\n'}); n > 100 || !bytes.Contains(lines.Bytes(), []byte(`"operation":"get"`)) {
				t.Errorf("500 messages and a get have %d lines, want few, and one for the get", n)
			}
		})
	}
}
