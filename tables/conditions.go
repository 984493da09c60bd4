package tables

import "github.com/go-partd/partd/tables/filter"

// Condition selects rows: [ScanOptions.Filter], and what DeleteRows deletes. It is made of
// values by the functions here, which no quote in a text can leave, or of a text by
// filter.Parse. A value that cannot be compared, as a NaN, is the error of what the
// condition is given to.
type Condition = filter.Expr

// Eq is true where a column equals a value.
func Eq[V filter.Value](column string, v V) *Condition { return filter.Eq(column, v) }

// Ne is true where a column has another value, and no null.
func Ne[V filter.Value](column string, v V) *Condition { return filter.Ne(column, v) }

// Lt is true where a column is less than a value.
func Lt[V filter.Value](column string, v V) *Condition { return filter.Lt(column, v) }

// Le is true where a column is at most a value.
func Le[V filter.Value](column string, v V) *Condition { return filter.Le(column, v) }

// Gt is true where a column is more than a value.
func Gt[V filter.Value](column string, v V) *Condition { return filter.Gt(column, v) }

// Ge is true where a column is at least a value.
func Ge[V filter.Value](column string, v V) *Condition { return filter.Ge(column, v) }

// Between is true where a column is from a value up to another, which is in the range.
func Between[V filter.Value](column string, low, high V) *Condition {
	return filter.Between(column, low, high)
}

// In is true where a column equals one of some values.
func In[V filter.Value](column string, values ...V) *Condition { return filter.In(column, values...) }

// Like is true where a text is like a pattern: % is any text in it, _ any character.
func Like(column, pattern string) *Condition { return filter.Like(column, pattern) }

// IsNull is true where a column is null.
func IsNull(column string) *Condition { return filter.IsNull(column) }

// Not is true where a condition is false.
func Not(c *Condition) *Condition { return filter.Not(c) }

// And is true where all conditions are that are not nil.
func And(all ...*Condition) *Condition { return filter.And(all...) }

// Or is true where one of the conditions is; a nil one is true of all rows.
func Or(all ...*Condition) *Condition { return filter.Or(all...) }
