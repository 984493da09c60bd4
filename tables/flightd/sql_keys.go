package flightd

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// noKeys are the results of commands for keys, which tables do not have, and drivers ask
// for all the same.
var noKeys = map[string]*arrow.Schema{
	"PrimaryKeys": schema_ref.PrimaryKeys, "ExportedKeys": schema_ref.ExportedKeys,
	"ImportedKeys": schema_ref.ImportedKeys, "CrossReference": schema_ref.CrossReference,
}

// keysOf returns the columns that such a command asks for, nil for another one.
func keysOf(command []byte) *arrow.Schema {
	var a anypb.Any
	if proto.Unmarshal(command, &a) != nil {
		return nil
	}
	return noKeys[strings.TrimPrefix(a.TypeUrl, sqlCommands+"CommandGet")]
}
