package definition

import (
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables/internal/schema"
	"github.com/go-partd/partd/tables/internal/sorted"
)

// Order is how the rows of a table with a time column are ordered. Files with its sort
// order, as Iceberg calls it, have their rows in it, and together hold no two rows of
// which the rule for duplicates leaves one.
type Order struct {
	Rule  OnDuplicate
	IDs   []int    // of the time column and the key columns
	Names []string // their names
	Sort  int      // the id of the sort order
}

func newOrder(d *Definition, sort int) (*Order, error) {
	if d.Settings.Time == "" {
		return nil, nil
	}
	o := &Order{Rule: d.Settings.OnDuplicate, Sort: sort}
	for _, name := range d.Settings.Order() {
		f, ok := d.Columns.FindFieldByName(name)
		if !ok {
			return nil, schema.Errorf(name, "the table's settings name it, and the table has no such column")
		}
		o.IDs, o.Names = append(o.IDs, f.ID), append(o.Names, name)
	}
	return o, nil
}

// in returns the order by the names that the columns have in a schema, nil if it lacks one.
func (o *Order) in(columns *iceberg.Schema) *Order {
	was := *o
	was.Names = nil
	for _, id := range o.IDs {
		f, ok := columns.FindFieldByID(id)
		if !ok {
			return nil
		}
		was.Names = append(was.Names, f.Name)
	}
	return &was
}

// Same reports whether rows that are in one order are in the other, without the same
// duplicates. Either may be nil.
func (o *Order) Same(as *Order) bool {
	if o == nil || as == nil {
		return o == as
	}
	return o.Rule == as.Rule && o.Sort == as.Sort && slices.Equal(o.IDs, as.IDs)
}

// Merging is the rule by which sources are merged that may have duplicates among them.
func (o *Order) Merging() sorted.Rule {
	switch o.Rule {
	case KeepFirst:
		return sorted.First
	case KeepLast:
		return sorted.Last
	}
	return sorted.All
}

// sortUpdates returns what gives a table the sort order of settings.
func (s Settings) sortUpdates(meta table.Metadata) ([]table.Update, error) {
	if s.Time == "" {
		return Unsorted(), nil
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

// Unsorted returns what gives a table no sort order.
func Unsorted() []table.Update {
	none := table.UnsortedSortOrder
	return []table.Update{table.NewAddSortOrderUpdate(&none), table.NewSetDefaultSortOrderUpdate(0)}
}
