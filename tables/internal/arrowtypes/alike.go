package arrowtypes

import "github.com/apache/arrow-go/v18/arrow"

// Alike reports whether two types, as [Stored] has them, are the same but for
// names that Iceberg and Parquet give to the parts of lists and maps.
func Alike(a, b arrow.DataType) bool { return alike(a, b) }
