package filejobs

import (
	"bytes"
	"errors"
	"testing"

	"github.com/go-partd/partd/internal/base/ledger"
	"github.com/go-partd/partd/internal/engine/mergejoin"
	"github.com/go-partd/partd/internal/jobs/output"
	"github.com/go-partd/partd/internal/testutil/must"
)

// TestJoinProof checks that the proof's verify returns an error if a record is read but not joined, is joined with
// different bytes, or is lost by the table. verifyRows returns an error if rows are missing.
func TestJoinProof(t *testing.T) {
	count := func(texts ...string) (c ledger.Count) {
		for _, text := range texts {
			c.AddRecord([]byte(text))
		}
		return c
	}
	ab := count("a", "b")
	complete := joinProof{read: ab, joined: ab, added: ab, remaining: ab}
	must.Do(t, complete.verify(2))
	for name, p := range map[string]joinProof{
		"read, but not joined":    {read: ab, joined: count("a"), added: ab, remaining: ab},
		"joined with other bytes": {read: ab, joined: count("a", "c"), added: ab, remaining: ab},
		"lost by the table":       {read: ab, joined: ab, added: ab, remaining: count("b")},
		"not looked up":           {read: count("a"), joined: count("a"), added: ab, remaining: ab},
	} {
		if err := p.verify(2); !errors.Is(err, ledger.ErrNotVerified) {
			t.Errorf("%s: verify = %v, want %v", name, err, ledger.ErrNotVerified)
		}
	}

	var file bytes.Buffer
	j := &Job{sink: &sink{Writer: output.NewWriter(t.Context(), &file)}}
	o := &joinOutput{job: j, left: &joinSide{kind: mergejoin.Semi}, converter: &converter{}}
	w := o.newWriter(t.Context(), 0)
	for range 2 {
		must.Do(t, w.writeWhole([]byte("a,b\n")))
	}
	if o.verifyRows(2, w) == nil {
		t.Error("verifyRows returned no error for rows that were not yet written")
	}
	must.Do(t, errors.Join(w.flush(), o.verifyRows(2, w)))
	if o.verifyRows(3, w) == nil {
		t.Error("verifyRows returned no error for a missing row")
	}
	must.Do(t, j.sink.Close())
}
