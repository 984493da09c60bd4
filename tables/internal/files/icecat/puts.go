package icecat

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// puts records the IDs of committed puts.
type puts struct{ *database }

// PutID is a put's ID, with the time when the put was acknowledged.
type PutID struct {
	ID string
	At time.Time
}

// PutsWithPrefix returns the IDs that begin with prefix and whose puts are committed to the table with the given UUID.
func (p puts) PutsWithPrefix(ctx context.Context, uuid, prefix string) ([]string, error) {
	return p.queryStrings(ctx, `SELECT id FROM partd_ids WHERE uuid=? AND discarded=0 AND substr(id, 1, ?)=?`, uuid, utf8.RuneCountInString(prefix), prefix)
}

// PutsApplied returns those of the given IDs whose puts are committed to the table with the given UUID.
func (p puts) PutsApplied(ctx context.Context, uuid string, ids ...string) (applied []string, err error) {
	for chunk := range slices.Chunk(ids, 500) {
		args := []any{uuid}
		for _, id := range chunk {
			args = append(args, id)
		}
		q := `SELECT id FROM partd_ids WHERE uuid=? AND discarded=0 AND id IN (?` + strings.Repeat(",?", len(chunk)-1) + `)`
		ids, err := p.queryStrings(ctx, q, args...)
		if err != nil {
			return nil, err
		}
		applied = append(applied, ids...)
	}
	return applied, nil
}

// PutsIn returns the IDs of the puts in one state of the table with the given UUID: the state whose metadata is at
// location.
func (p puts) PutsIn(ctx context.Context, uuid, location string) (ids []PutID, err error) {
	err = query(ctx, p.readPool, func(rows *sql.Rows) error {
		var id string
		var millis int64
		err := rows.Scan(&id, &millis)
		ids = append(ids, PutID{id, time.UnixMilli(millis)})
		return err
	}, `SELECT id, at_ms FROM partd_ids WHERE uuid=?1 AND version<=?2 AND (discarded=0 OR discarded>?2)`, uuid, metadataVersion(location))
	return ids, err
}

// ForgetPuts deletes the IDs of puts that were acknowledged before cutoff. It does so in small transactions, so that
// commits do not wait long.
func (p puts) ForgetPuts(ctx context.Context, cutoff time.Time) error {
	const q = `SELECT uuid || ' ' || id FROM partd_ids WHERE (uuid, id) > (?,?) ORDER BY uuid, id LIMIT 5000`
	for uuid, id := "", ""; ; {
		page, err := p.queryStrings(ctx, q, uuid, id)
		if err != nil || len(page) == 0 {
			return err
		}
		lastUUID, lastID, _ := strings.Cut(page[len(page)-1], " ")
		err = p.inTx(ctx, func(t *transaction) {
			t.exec(`DELETE FROM partd_ids WHERE (uuid, id) > (?,?) AND (uuid, id) <= (?,?) AND at_ms<?`, uuid, id, lastUUID, lastID, cutoff.UnixMilli())
		})
		if err != nil {
			return err
		}
		uuid, id = lastUUID, lastID
	}
}
