package tables

import (
	_ "github.com/apache/iceberg-go/table"
	_ "github.com/zeebo/xxh3"
	_ "modernc.org/sqlite"
)
