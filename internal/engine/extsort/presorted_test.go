package extsort

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestMerge checks that inputs with equal keys, long records and no records are merged in order, with and without runs.
func TestMerge(t *testing.T) {
	for _, inputs := range []int{1, 2, 7, 60} {
		var want [][2]string
		records := make([][][2]string, inputs)
		for i := range inputs {
			for k := range (i * 37) % 200 {
				long := bytes.Repeat([]byte{'x'}, k%50*40)
				r := [2]string{fmt.Sprintf("%05d", (k*k+i)/7), fmt.Sprintf("%d-%d%s", i, k, long)}
				records[i] = append(records[i], r)
			}
			slices.SortStableFunc(records[i], func(a, b [2]string) int { return bytes.Compare([]byte(a[0]), []byte(b[0])) })
			want = append(want, records[i]...)
		}
		slices.SortStableFunc(want, func(a, b [2]string) int { return bytes.Compare([]byte(a[0]), []byte(b[0])) })
		for _, open := range []int{2, 5, 60} {
			s := must.Get(New(t.Context(), &Options{Memory: MinMemory, Threads: 2}))(t)
			must.Do(t, s.Merge(MergeOptions{Inputs: inputs, Open: open, Block: 500, MaxRecord: 3000, Read: func(input int, p *Presorted) error {
				return p.Work(func() error {
					for _, r := range records[input] {
						if err := p.Add([]byte(r[0]), []byte(r[1])); err != nil {
							return err
						}
					}
					return nil
				})
			}}))
			n := 0
			for b, err := range s.Sorted() {
				must.Do(t, err)
				for i := range b.Len() {
					if got := string(b.Record(i)); n >= len(want) || got != want[n][1] {
						t.Fatalf("%d inputs, %d open: record %d is %.20q, want %.20q", inputs, open, n, got, want[min(n, len(want)-1)][1])
					}
					n++
				}
			}
			if stats := s.Stats(); n != len(want) || stats.Records != int64(n) || (stats.Runs == 0) != (inputs <= open) {
				t.Errorf("%d inputs, %d open: %d records, want %d; %+v", inputs, open, n, len(want), stats)
			}
			must.Do(t, s.Close())
		}
	}
}

// TestMergeFails checks the errors of an input in the wrong order, of a long record, and of Read.
func TestMergeFails(t *testing.T) {
	errRead := errors.New("no more")
	for _, open := range []int{2, 9} {
		for name, c := range map[string]struct {
			keys []string
			err  error
		}{
			"order": {[]string{"a", "b", "aa"}, ErrOrder}, "long": {[]string{"a", "long"}, ErrTooLarge}, "read": {[]string{"a", "a"}, errRead},
		} {
			s, err := New(t.Context(), &Options{Memory: MinMemory})
			must.Do(t, err)
			err = s.Merge(MergeOptions{Inputs: 9, Open: open, Block: 500, MaxRecord: 1000, Read: func(input int, p *Presorted) error {
				if input != 4 {
					return nil
				}
				err := p.Work(func() error {
					for _, k := range c.keys {
						if err := p.Add([]byte(k), make([]byte, 300*len(k))); err != nil {
							return err
						}
					}
					return nil
				})
				if err == nil {
					err = errRead
				}
				return err
			}})
			for _, sortErr := range s.Sorted() {
				if err == nil {
					err = sortErr
				}
			}
			must.Fail(t, err, c.err, "%s, %d open", name, open)
			must.Do(t, s.Close())
		}
	}
}
