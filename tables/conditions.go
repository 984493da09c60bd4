package tables

import "github.com/go-partd/partd/tables/filter"

// Condition selects rows, for [ScanOptions.Filter] and DeleteRows. The functions below build conditions from values;
// filter.Parse builds them from text. An operation returns an error if a condition contains NaN, because NaN has no
// order.
type Condition = filter.Expr

// Eq selects rows whose column equals v.
func Eq[V filter.Value](column string, v V) *Condition { return filter.Eq(column, v) }

// Ne selects rows whose column differs from v and is not null.
func Ne[V filter.Value](column string, v V) *Condition { return filter.Ne(column, v) }

// Lt selects rows whose column is less than v.
func Lt[V filter.Value](column string, v V) *Condition { return filter.Lt(column, v) }

// Le selects rows whose column is at most v.
func Le[V filter.Value](column string, v V) *Condition { return filter.Le(column, v) }

// Gt selects rows whose column is greater than v.
func Gt[V filter.Value](column string, v V) *Condition { return filter.Gt(column, v) }

// Ge selects rows whose column is at least v.
func Ge[V filter.Value](column string, v V) *Condition { return filter.Ge(column, v) }

// Between selects rows whose column is in the range [low, high], which includes both bounds.
func Between[V filter.Value](column string, low, high V) *Condition {
	return filter.Between(column, low, high)
}

// In selects rows whose column equals one of values.
func In[V filter.Value](column string, values ...V) *Condition { return filter.In(column, values...) }

// Like selects rows whose text matches a pattern: % matches any text, _ any character.
func Like(column, pattern string) *Condition { return filter.Like(column, pattern) }

// IsNull selects rows whose column is null.
func IsNull(column string) *Condition { return filter.IsNull(column) }

// Not selects rows where c is false.
func Not(c *Condition) *Condition { return filter.Not(c) }

// And selects rows where all conditions are true. It ignores nil conditions.
func And(conditions ...*Condition) *Condition { return filter.And(conditions...) }

// Or selects rows where any condition is true. A nil condition selects all rows.
func Or(conditions ...*Condition) *Condition { return filter.Or(conditions...) }
