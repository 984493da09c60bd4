package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/shards"
)

const verifyHelp = `Read all data in the files of a log: store, even data that has been deleted or
replaced, and check all checksums and the ledgers: the number of records
appended, their bytes, and a sum of their hashes. Nothing is changed.

After damage, the command continues. It reports the file and offset of each
damaged place, or why a store cannot be opened. The exit code is then 1. An
incomplete record at the very end of a write-ahead file is not damage: a process
that is killed during a write can leave one.

If a server has the store open, let that server verify it: use --store
tcp://HOST:PORT or ipc:///PATH.

A file: store has no checksums and cannot be verified; the exit code is then 2.`

func newVerify(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [flags]",
		Short: "Check all checksums of a store and its ledger (record counts and hashes)",
		Long:  verifyHelp,
		Example: `  partd verify
  partd verify --store log:users --json
  partd verify --store tcp://127.0.0.1:7077
  partd verify --progress never || echo "restore it from a copy"`,
	}
	url, asJSON := storeFlag(cmd), jsonFlag(cmd, "write a JSON object, even if the store is damaged")
	when := cliutil.ProgressFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cliutil.CheckProgress(*when); err != nil {
			return err
		}
		if err := checkVerifiable(cmd.Context(), *url); err != nil {
			return err
		}
		start := time.Now()
		v := verification{Store: *url}
		bar := progress.Start(a.errOut, cliutil.ShowsProgress(*when, a.errOut))
		err := v.run(cmd.Context(), *url, bar)
		bar.Stop()
		v.Seconds = time.Since(start).Seconds()
		v.Damage = damageIn(err)
		v.OK = err == nil
		if err != nil && (!*asJSON || v.Damage == nil) {
			return err
		}
		return errors.Join(err, writeResult(a.out, *asJSON, v, v.writeText))
	}
	return cmd
}

// checkVerifiable returns an error if the store has no checksums.
func checkVerifiable(ctx context.Context, rawURL string) error {
	if _, err := storeExists(ctx, "store", rawURL); cliutil.IsUsage(err) {
		return err
	}
	scheme, location := cliutil.SplitURL(rawURL)
	switch scheme {
	case "log", "tcp", "tls", "ipc", "s3", "gs":
	default:
		return cliutil.Usagef("--store %s cannot be verified, because stores with the scheme %s have no checksums: "+
			"use a log store instead, as in --store log:%s", rawURL, scheme, location)
	}
	return nil
}

type verification struct {
	Store    string   `json:"store"`
	OK       bool     `json:"ok"`
	Keys     int64    `json:"keys"`     // number of keys read
	Bytes    int64    `json:"bytes"`    // total size of their values
	Records  int64    `json:"records"`  // number of records ever appended or set
	Segments int64    `json:"segments"` // number of complete segments
	Seconds  float64  `json:"seconds"`
	Damage   []damage `json:"damage,omitempty"`
}

// damage is a place whose content differs from what was written.
type damage struct {
	File   string `json:"file"`
	Offset *int64 `json:"offset,omitempty"` // nil if the whole file is damaged
	Error  string `json:"error"`
}

// run makes the store, or its server, check all data. Then it counts the keys. The check does not
// stop at damage.
func (v *verification) run(ctx context.Context, url string, bar *progress.Bar) (err error) {
	bar.Wait("opening the store", nil)
	store, err := openReading(ctx, url, nil)
	if err != nil {
		return err
	}
	defer closeReading(store, &err)
	bar.Wait("comparing checksums", nil)
	result, err := partd.Check(ctx, store)
	v.Records, v.Segments = result.Records, result.Segments
	if ctx.Err() != nil || err != nil && damageIn(err) == nil {
		return err
	}
	// Nothing was written, so no layer holds keys that the bottom store lacks.
	bar.Wait("counting keys", nil)
	for info, keysErr := range partd.Keys(ctx, cliutil.BottomStore(store)) {
		if keysErr != nil {
			if err == nil || ctx.Err() != nil {
				err = keysErr
			}
			break // the listing stops at damage, which Check has already reported
		}
		v.Keys++
		v.Bytes += info.Size
	}
	return err
}

func (v *verification) writeText(w io.Writer) {
	fmt.Fprintf(w, "store   %s\nkeys    %d\nbytes   %s\n", v.Store, v.Keys, withUnit(v.Bytes))
	if v.Segments > 0 || v.Records > 0 {
		fmt.Fprintf(w, "records %d\nsegments %d\n", v.Records, v.Segments)
	}
	fmt.Fprintf(w, "time    %.2f s, %s\n", v.Seconds, progress.Rate(float64(v.Bytes)/max(v.Seconds, 1e-6)))
	fmt.Fprintln(w, "result  all checksums and the ledger match")
}

func damageIn(err error) []damage {
	switch e := err.(type) {
	case nil:
		return nil
	case *partd.CorruptError:
		d := damage{File: e.Path, Error: e.Err.Error()}
		if e.Offset >= 0 {
			d.Offset = &e.Offset
		}
		return []damage{d}
	case *shards.Error: // add the server, because several servers may have a file of this name
		all := damageIn(e.Err)
		for i := range all {
			all[i].File = e.Shard + ": " + all[i].File
		}
		return all
	case interface{ Unwrap() []error }:
		var all []damage
		for _, inner := range e.Unwrap() {
			all = append(all, damageIn(inner)...)
		}
		return all
	}
	return damageIn(errors.Unwrap(err))
}
