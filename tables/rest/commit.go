package rest

import (
	"net/http"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

const (
	maxUpdates = 10_000 // maximum number of updates in a commit, and of requirements
	maxTables  = 1_000  // maximum number of tables in a transaction
)

type commit struct {
	Identifier   *identifier         `json:"identifier"`
	Requirements *table.Requirements `json:"requirements"`
	Updates      *table.Updates      `json:"updates"`
}

// change converts a commit to a change for the store. The caller must have checked that the user may commit.
func (c *commit) change(b *tables.Bucket, name string) (partdiceberg.Change, error) {
	if c.Requirements == nil || c.Updates == nil {
		return partdiceberg.Change{}, invalid("a commit needs requirements and updates, which may be empty")
	}
	if len(*c.Updates) > maxUpdates || len(*c.Requirements) > maxUpdates {
		return partdiceberg.Change{}, invalid("a commit may have at most %d updates and as many requirements, but this one has %d and %d", maxUpdates, len(*c.Updates), len(*c.Requirements))
	}
	return partdiceberg.Change{Bucket: b.Name(), Table: name, Requirements: *c.Requirements, Updates: *c.Updates}, nil
}

func (h *handler) commitTable(q *request, b *tables.Bucket) error {
	var in commit
	if err := q.parse(&in); err != nil {
		return err
	}
	change, err := in.change(b, q.PathValue("table"))
	if err != nil {
		return err
	}
	if err := q.chargeTables(true, tableName{b, change.Table}); err != nil {
		return err
	}
	return h.commit(q, b, change)
}

// commit changes a single table and answers with its metadata.
func (h *handler) commit(q *request, b *tables.Bucket, c partdiceberg.Change) error {
	q.willReplyTable()
	committed, err := partdiceberg.Commit(q.Ctx, h.store, c)
	if err != nil {
		return err
	}
	return h.replyCommitted(q, b, committed[0])
}

// replyCommitted answers a request that committed, created or registered the table t.
func (h *handler) replyCommitted(q *request, b *tables.Bucket, t *table.Table) error {
	location := t.MetadataLocation()
	q.W.Header().Set("ETag", etag(location, false))
	if q.PathValue("table") == "" {
		return h.replyTable(q, b, location, t.Location(), t.Metadata())
	}
	return q.reply(http.StatusOK, map[string]any{"metadata-location": location, "metadata": t.Metadata()})
}

func (h *handler) commitTransaction(q *request) error {
	var in struct {
		Changes []commit `json:"table-changes"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	if n := len(in.Changes); n == 0 || n > maxTables {
		return invalid("a transaction must change 1 to %d tables, but this one changes %d", maxTables, n)
	}
	var changes []partdiceberg.Change
	var names []tableName
	for _, c := range in.Changes {
		if c.Identifier == nil {
			return invalid("each change of a transaction needs the table's identifier")
		}
		serving.Note(q.Ctx, "", "", c.Identifier.Name)
		b, err := h.bucketFor(q, serving.Admin, c.Identifier.Namespace)
		if err == nil {
			err = checkExists(q, b)
		}
		if err != nil {
			return err
		}
		change, err := c.change(b, c.Identifier.Name)
		if err != nil {
			return err
		}
		changes, names = append(changes, change), append(names, tableName{b, change.Table})
	}
	if err := q.chargeTables(true, names...); err != nil {
		return err
	}
	_, err := partdiceberg.Commit(q.Ctx, h.store, changes...)
	return q.replyEmpty(err)
}
