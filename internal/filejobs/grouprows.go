package filejobs

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/extsort"
)

// groupTally is what the groups written stand for.
type groupTally struct {
	groups, records int64
	keys            uint64 // sum of the hashes of their keys, once for each record
}

func (t *groupTally) add(o groupTally) {
	t.groups += o.groups
	t.records += o.records
	t.keys += o.keys
}

// write writes the rows.
func (g *groupEngine) write(ctx context.Context) error {
	j := g.job
	r, err := newGroupRow(g, j)
	if err != nil {
		return err
	}
	header, err := r.rows.AppendHeader(nil)
	if err == nil {
		_, err = j.sink.Write(header)
	}
	if err == nil {
		err = g.writeRows(ctx, r)
	}
	if err = joinErrors(err, r.close()); err != nil {
		return err
	}
	if err := g.prove(r.tally); err != nil {
		return err
	}
	if g.top.N > 0 {
		if err := g.top.write(j, r.tally.groups); err != nil {
			return err
		}
	}
	counts := make([]string, len(g.workers))
	perWorker := make([]int64, len(g.workers))
	for i, w := range g.workers {
		counts[i], perWorker[i] = humanize.Comma(w.records), w.records
	}
	j.report("groups", "groups", r.tally.groups)
	j.report("records_by_worker", "", perWorker)
	j.report("proof", "proof", fmt.Sprintf("the counts of the groups add up to the records: %s (%s)", humanize.Comma(r.tally.records), strings.Join(counts, " + ")))
	j.report("spills", "", g.sorter.Stats().Runs)
	return nil
}

// writeRows writes what was sorted as rows: by one goroutine where a row may be large,
// or is sorted itself, and else by all.
func (g *groupEngine) writeRows(ctx context.Context, r *groupRow) error {
	j := g.job
	if !g.sortsValues() && len(g.quantiled) == 0 && g.top.N == 0 && j.Threads > 1 {
		return g.writeTogether(ctx, r)
	}
	var out io.Writer = j.sink
	if g.top.N > 0 {
		if err := g.top.open(ctx, j, r, g.share); err != nil {
			return err
		}
		out = &g.top
	}
	for b, err := range g.sorter.Sorted() {
		if err != nil {
			return err
		}
		if err := r.addBlock(b, out); err != nil {
			return err
		}
	}
	return r.end(out)
}

// addBlock adds the parts of groups that a block has, and writes each group that ends.
func (r *groupRow) addBlock(b *extsort.Block, out io.Writer) error {
	for i := range b.Len() {
		rec, same := b.Record(i), b.SameKey(i)
		begins := !same
		if r.g.sortsParts() {
			begins = begins && rec[0] == aggregated
		}
		if begins {
			if err := r.end(out); err != nil {
				return err
			}
		}
		if err := r.add(b.Key(i), rec, same); err != nil {
			return err
		}
	}
	return nil
}

// end writes the group at hand, if there is one.
func (r *groupRow) end(out io.Writer) error {
	if !r.begun {
		return nil
	}
	return r.write(out)
}
