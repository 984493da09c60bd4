package definition

import (
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
)

// Order is the row order of a table with a time column. Data files that declare the sort order Sort contain sorted
// rows. Rule has already been applied across all these files, so their rows need no further deduplication.
type Order struct {
	Rule  OnDuplicate
	IDs   []int    // IDs of the time column and the key columns
	Names []string // names of these columns
	Sort  int      // ID of the Iceberg sort order
}

// HasRule reports whether o has a rule that removes or rejects duplicates. It returns false if o is nil.
func (o *Order) HasRule() bool { return o != nil && o.Rule != "" && o.Rule != KeepAll }

func newOrder(d *Definition, sort int) (*Order, error) {
	if d.Settings.Time == "" {
		return nil, nil
	}
	o := &Order{Rule: d.Settings.OnDuplicate, Sort: sort}
	for _, name := range d.Settings.Order() {
		f, ok := d.Columns.FindFieldByName(name)
		if !ok {
			return nil, schema.Errorf(name, "the table's settings name it, but the table has no such column")
		}
		o.IDs, o.Names = append(o.IDs, f.ID), append(o.Names, name)
	}
	return o, nil
}

// Equal reports whether two orders, which may be nil, sort rows equally and have the same rule for duplicates.
func (o *Order) Equal(other *Order) bool {
	if o == nil || other == nil {
		return o == other
	}
	return o.Rule == other.Rule && o.Sort == other.Sort && slices.Equal(o.IDs, other.IDs)
}

// Merging returns o.Rule as a rule for merging sorted rows.
func (o *Order) Merging() sorted.Rule {
	switch o.Rule {
	case KeepFirst:
		return sorted.First
	case KeepLast:
		return sorted.Last
	}
	return sorted.All
}

// sortUpdates returns the updates that give a table the order of s. If neither s nor the current settings have a time
// column, the order belongs to another program and stays.
func (s Settings) sortUpdates(meta table.Metadata, current Settings) ([]table.Update, error) {
	switch {
	case s.Time == "" && current.Time == "":
		return nil, nil
	case s.Time == "":
		return RemoveSortOrder(), nil
	}
	var fields []table.SortField
	for _, name := range s.Order() {
		f, ok := meta.CurrentSchema().FindFieldByName(name)
		if !ok {
			return nil, schema.Errorf(name, "the table has no such column")
		}
		fields = append(fields, table.SortField{
			SourceIDs: []int{f.ID}, Transform: iceberg.IdentityTransform{}, Direction: table.SortASC, NullOrder: table.NullsFirst,
		})
	}
	sort, err := table.NewSortOrder(1, fields)
	return []table.Update{table.NewAddSortOrderUpdate(&sort), table.NewSetDefaultSortOrderUpdate(-1)}, err
}

// RemoveSortOrder returns the metadata updates that remove a table's sort order.
func RemoveSortOrder() []table.Update {
	unsorted := table.UnsortedSortOrder
	return []table.Update{table.NewAddSortOrderUpdate(&unsorted), table.NewSetDefaultSortOrderUpdate(0)}
}
