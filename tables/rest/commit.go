package rest

import (
	"net/http"

	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

const (
	mostUpdates = 10_000 // of a commit, and so many requirements
	mostTables  = 1_000  // of a transaction
)

// commit is a change of a table as clients send it.
type commit struct {
	Identifier   *identifier         `json:"identifier"`
	Requirements *table.Requirements `json:"requirements"`
	Updates      *table.Updates      `json:"updates"`
}

// change is the commit for the store, for a caller who may commit to the table.
func (c *commit) change(b *tables.Bucket, name string) (tables.IcebergChange, error) {
	if c.Requirements == nil || c.Updates == nil {
		return tables.IcebergChange{}, invalid("a commit has requirements and updates, be they empty")
	}
	if len(*c.Updates) > mostUpdates || len(*c.Requirements) > mostUpdates {
		return tables.IcebergChange{}, invalid("a commit has at most %d updates and requirements, not %d and %d", mostUpdates, len(*c.Updates), len(*c.Requirements))
	}
	return tables.IcebergChange{Bucket: b.Name(), Table: name, Requirements: *c.Requirements, Updates: *c.Updates}, nil
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
	done, err := h.store.CommitIceberg(q.Ctx, change)
	if err != nil {
		return err
	}
	location := done[0].MetadataLocation()
	q.W.Header().Set("ETag", etag(location, false))
	return q.reply(http.StatusOK, map[string]any{"metadata-location": location, "metadata": done[0].Metadata()})
}

func (h *handler) commitTransaction(q *request) error {
	var in struct {
		Changes []commit `json:"table-changes"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	if n := len(in.Changes); n == 0 || n > mostTables {
		return invalid("a transaction changes 1 to %d tables, not %d", mostTables, n)
	}
	var changes []tables.IcebergChange
	for _, c := range in.Changes {
		if c.Identifier == nil {
			return invalid("a change of a transaction has the table's identifier")
		}
		b, err := h.allowed(q, flightd.Admin, c.Identifier.Namespace)
		if err == nil {
			err = exists(q, b)
		}
		if err != nil {
			return err
		}
		change, err := c.change(b, c.Identifier.Name)
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	_, err := h.store.CommitIceberg(q.Ctx, changes...)
	return q.done(err)
}
