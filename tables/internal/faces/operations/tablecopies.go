package operations

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Operations on copies of tables. For Flight requests, the server sets Copying.Copies.
var (
	Backup = copyOperation("backup", "backup", func(ctx context.Context, s *tables.Store, in *BackupRequest) ([]tables.CopiedTable, error) {
		return s.Backup(ctx, in.Copies, in.Name, in.Buckets...)
	})
	Copy = copyOperation("copy", "copy", func(ctx context.Context, s *tables.Store, in *CopyRequest) ([]tables.CopiedTable, error) {
		return s.CopyTo(ctx, in.Copies, in.Buckets...)
	})
	RestoreBackup = copyOperation("restore_backup", "restore", func(ctx context.Context, s *tables.Store, in *RestoreRequest) ([]tables.CopiedTable, error) {
		if len(in.Tables) == 0 {
			return s.RestoreFrom(ctx, in.Copies, in.Name, in.Buckets...)
		}
		if len(in.Buckets) != 1 {
			return nil, &tables.ArgumentError{Err: errors.New("to restore single tables, name exactly one bucket")}
		}
		return s.RestoreTablesFrom(ctx, in.Copies, in.Name, in.Buckets[0], in.Tables...)
	})

	Backups = withProgress("backups", "backups", func(ctx context.Context, _ *tables.Store, in *BackupsRequest, send func(CopyProgress)) error {
		backups, err := in.Copies.Backups(ctx)
		for _, b := range backups {
			send(CopyProgress{Backup: &b})
		}
		return err
	})

	Verify = withProgress("verify", "verify", func(ctx context.Context, s *tables.Store, in *VerifyRequest, send func(CopyProgress)) error {
		o := &tables.VerifyOptions{Buckets: in.Buckets, Tables: in.Tables, Report: func(f tables.Finding) { send(CopyProgress{Finding: &f}) }}
		if in.Copies != nil {
			o.Repair = in.Copies.Copies()
		}
		result, err := s.Verify(ctx, o)
		send(CopyProgress{Verified: &result})
		return err
	})
)

// Copying says where the copies are. Each request in this file embeds it.
type Copying struct {
	Dir    string        `json:"dir,omitempty"` // directory of the copies; in a Flight request, a name in the server's directory for copies
	Copies *tables.Store `json:"-"`             // store in Dir; nil if Verify must not repair files
}

// Location returns c. It gives callers access to the Copying in a request of any type.
func (c *Copying) Location() *Copying { return c }

func (c *Copying) rate() int64 { return 0 }

// Paced is a Copying with a rate limit.
type Paced struct {
	Copying
	Rate int64 `json:"rate,omitempty"` // maximum number of bytes read per second; 0 means no limit
}

func (p *Paced) rate() int64 { return p.Rate }

// CopyInput is a pointer to a request to copy or verify files.
type CopyInput[In any] interface {
	*In
	Location() *Copying
	rate() int64
}

// The requests of the operations. Name is the name of a backup.
type (
	BackupRequest struct {
		Paced
		Name    string         `json:"name,omitempty"`
		Buckets tables.Buckets `json:"buckets,omitempty"`
	}
	CopyRequest struct {
		Paced
		Buckets tables.Buckets `json:"buckets,omitempty"`
	}
	RestoreRequest struct {
		Paced
		Name    string         `json:"name,omitempty"`
		Buckets tables.Buckets `json:"buckets,omitempty"`
		Tables  []string       `json:"tables,omitempty"` // tables to restore from the only bucket in Buckets; empty means all tables
	}
	BackupsRequest struct{ Copying }
	VerifyRequest  struct {
		Paced
		Buckets tables.Buckets `json:"buckets,omitempty"`
		Tables  []string       `json:"tables,omitempty"`
	}
)

// CopyProgress is one answer in the stream that an operation in this file returns. While the operation runs, it sends
// an answer each second and for each finding. The answers with Table, Backup or Verified come last.
type CopyProgress struct {
	Bytes    int64                `json:"bytes"` // number of bytes read so far
	Finding  *tables.Finding      `json:"finding,omitempty"`
	Table    *tables.CopiedTable  `json:"table,omitempty"`
	Backup   *tables.SnapshotInfo `json:"backup,omitempty"`
	Verified *tables.VerifyResult `json:"verified,omitempty"`
}

func copyOperation[In any, P CopyInput[In]](name, command string, run func(context.Context, *tables.Store, P) ([]tables.CopiedTable, error)) Operation[In, CopyProgress] {
	return withProgress(name, command, func(ctx context.Context, s *tables.Store, in P, send func(CopyProgress)) error {
		copied, err := run(ctx, s, in)
		if err != nil {
			return err
		}
		for _, c := range copied {
			send(CopyProgress{Table: &c})
		}
		return nil
	})
}

// withProgress registers an operation that runs run and forwards its answers. Each answer, and another one each second,
// contains the number of bytes read so far.
func withProgress[In any, P CopyInput[In]](name, command string, run func(ctx context.Context, s *tables.Store, in P, send func(CopyProgress)) error) Operation[In, CopyProgress] {
	return withAnswers(Entry{Name: name, Writes: true, Slots: CopySlot, Command: command}, func(ctx context.Context, s *tables.Store, in *In) iter.Seq2[CopyProgress, error] {
		return func(yield func(CopyProgress, error) bool) {
			meter := content.NewMeter(P(in).rate())
			ctx, cancel := context.WithCancel(content.WithMeter(ctx, meter))
			defer cancel()
			answers, done := make(chan CopyProgress), make(chan error, 1)
			go func() {
				done <- parallel.Catch(func() error {
					return run(ctx, s, in, func(p CopyProgress) {
						_ = canceled.Send(ctx, answers, p) // fails only if ctx has ended: then nobody reads the answers
					})
				})
			}()
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				var p CopyProgress
				select {
				case p = <-answers:
				case <-tick.C:
				case err := <-done:
					if err == nil {
						err = canceled.Err(ctx) // if ctx has ended, answers may be missing
					}
					if err != nil {
						yield(p, err)
					}
					return
				}
				p.Bytes = meter.Bytes()
				if !yield(p, nil) {
					cancel()
					<-done
					return
				}
			}
		}
	})
}
