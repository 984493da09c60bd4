package commit

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/tail"
)

// applied reports whether the put with the given ID was applied to the table with the given UUID. log is the table's
// log, or nil.
func (s *site) applied(ctx context.Context, log *tail.Log, uuid, id string) (bool, error) {
	if log != nil && log.UUID() == uuid {
		if ok, err := log.Applied(ctx, id); ok || err != nil {
			return ok, err
		}
	}
	applied, err := s.tables.Catalog.PutsApplied(ctx, uuid, id)
	return len(applied) > 0, err
}

// voidApplied makes a log ignore the rows of puts that another process has also applied to the table.
func (s *site) voidApplied(ctx context.Context, log *tail.Log, folded int64) error {
	ids := log.IDs(folded, lastEpoch)
	applied, err := s.tables.Catalog.PutsApplied(ctx, log.UUID(), slices.Collect(maps.Keys(ids))...)
	if err == nil {
		log.Void(applied)
	}
	return err
}

// checkNew returns ErrNothing if a put with the ID is among puts, the puts of a change, or was already applied to cur.
// cur can be nil.
func (s *site) checkNew(ctx context.Context, puts []icecat.PutID, id string, log *tail.Log, cur *table.Table) error {
	if slices.ContainsFunc(puts, func(prior icecat.PutID) bool { return prior.ID == id }) {
		return ErrNothing
	}
	if cur == nil {
		return nil
	}
	applied, err := s.applied(ctx, log, cur.Metadata().TableUUID().String(), id)
	if applied && err == nil {
		err = ErrNothing
	}
	return err
}

// addFolded appends the puts in ids, whose rows a fold adds to the table with the given UUID. It returns ErrStale if
// another process has already applied one of them; the fold then starts again without that put's rows.
func (s *site) addFolded(ctx context.Context, puts []icecat.PutID, ids map[string]time.Time, uuid string) ([]icecat.PutID, error) {
	applied, err := s.tables.Catalog.PutsApplied(ctx, uuid, slices.Collect(maps.Keys(ids))...)
	if err != nil || len(applied) > 0 {
		return puts, cmp.Or(err, ErrStale)
	}
	return addAll(puts, ids), nil
}

// addAll appends puts with the given IDs and times to puts.
func addAll(puts []icecat.PutID, ids map[string]time.Time) []icecat.PutID {
	for id, timestamp := range ids {
		puts = append(puts, icecat.PutID{ID: id, At: timestamp})
	}
	return puts
}

// statementMark separates a statement's ID from its checksum and row count in the additional put ID that records these
// two values.
const statementMark = "\nstatement="

// Statement returns the checksum of the statement with the given ID and the number of rows that it changed. The
// checksum is "" if no statement with this ID was applied to the table.
func (s *site) Statement(ctx context.Context, t *table.Table, id string) (checksum string, n int64, err error) {
	ids, err := s.tables.Catalog.PutsWithPrefix(ctx, t.Metadata().TableUUID().String(), id+statementMark)
	if err != nil || len(ids) == 0 {
		return "", 0, err
	}
	checksum, rows, _ := strings.Cut(strings.TrimPrefix(ids[0], id+statementMark), " ")
	n, err = strconv.ParseInt(rows, 10, 64)
	return checksum, n, err
}
