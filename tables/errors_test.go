package tables

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
	"github.com/go-partd/partd/tables/internal/state/definition"
	"github.com/go-partd/partd/tables/internal/state/rules"
	"github.com/go-partd/partd/tables/internal/state/series"
)

// TestErrorsAreFound checks that errors.As finds each error of an internal package as the type that this package
// exports, with the same text and fields.
func TestErrorsAreFound(t *testing.T) {
	violated := &rules.Error{Violations: []rules.Violation{{Rule: "r", Count: 2, Rows: []rules.BadRow{{Row: 1, Values: "n=1"}}}}}
	var (
		columnErr    *SchemaError
		argumentErr  *ArgumentError
		sqlErr       *SQLError
		duplicateErr *DuplicateError
		ruleErr      *RuleError
	)
	for _, c := range []struct {
		internal error
		target   any
	}{
		{&schema.Error{Column: "n", Err: io.EOF}, &columnErr},
		{&definition.ArgumentError{Err: io.EOF}, &argumentErr},
		{&sqltext.Error{Line: 1, Column: 2, Err: io.EOF}, &sqlErr},
		{&series.DuplicateError{Count: 2, Rows: []string{"n=1"}}, &duplicateErr},
		{violated, &ruleErr},
	} {
		err := error(&OpError{Op: "put", Err: fmt.Errorf("wrapped: %w", c.internal)})
		if !errors.As(err, c.target) {
			t.Errorf("errors.As does not find %T as %T", c.internal, c.target)
			continue
		}
		if found := reflect.ValueOf(c.target).Elem().Interface().(error); found.Error() != c.internal.Error() {
			t.Errorf("%T has the text %q, want %q", found, found, c.internal)
		}
		if errors.As(err, new(*notFoundError)) {
			t.Errorf("errors.As finds %T as another type", c.internal)
		}
	}
	if columnErr.Column != "n" || sqlErr.Line != 1 || sqlErr.Column != 2 || duplicateErr.Count != 2 || fmt.Sprint(ruleErr.Violations) != fmt.Sprint(violated.Violations) {
		t.Errorf("the fields differ: %+v, %+v, %+v, %+v", columnErr, sqlErr, duplicateErr, ruleErr)
	}
	if own := (&RuleError{ruleErr.Violations}); own.Error() != violated.Error() {
		t.Errorf("a RuleError with the same violations has the text %q, want %q", own, violated)
	}
	if !errors.Is(columnErr, io.EOF) || !errors.Is(argumentErr, io.EOF) || !errors.Is(sqlErr, io.EOF) {
		t.Error("an error does not wrap its cause")
	}
}

// TestConversions checks that conversions to types of internal packages keep every field.
func TestConversions(t *testing.T) {
	s := Settings{"at", []string{"k"}, KeepLast, PartitionDay, Flexible, CompressSmall, MaintenanceOff, 3, "1h"}
	if got := settingsOf(*s.toDefinition()); !reflect.DeepEqual(got, s) {
		t.Errorf("converted settings = %+v, want %+v", got, s)
	}
	for _, c := range [][2]reflect.Type{
		{reflect.TypeFor[Settings](), reflect.TypeFor[definition.Settings]()},
		{reflect.TypeFor[RuleEdit](), reflect.TypeFor[rules.Edit]()},
		{reflect.TypeFor[Violation](), reflect.TypeFor[rules.Violation]()},
		{reflect.TypeFor[Finding](), reflect.TypeFor[content.Finding]()},
	} {
		if c[0].NumField() != c[1].NumField() {
			t.Errorf("%v and %v have different fields", c[0], c[1])
			continue
		}
		for i := range c[0].NumField() {
			if a, b := c[0].Field(i), c[1].Field(i); a.Name != b.Name || a.Tag != b.Tag {
				t.Errorf("field %d of %v is %s %q, but that of %v is %s %q", i, c[0], a.Name, a.Tag, c[1], b.Name, b.Tag)
			}
		}
	}
	for _, c := range [][2]string{
		{string(KeepAll), string(definition.KeepAll)},
		{string(KeepFirst), string(definition.KeepFirst)},
		{string(KeepLast), string(definition.KeepLast)},
		{string(RefuseDuplicate), string(definition.RefuseDuplicate)},
		{string(Strict), string(definition.Strict)},
		{string(AddOnly), string(definition.AddOnly)},
		{string(Compatible), string(definition.Compatible)},
		{string(Flexible), string(definition.Flexible)},
		{string(PartitionNone), string(definition.PartitionNone)},
		{string(PartitionAuto), string(definition.PartitionAuto)},
		{string(PartitionDay), string(definition.PartitionDay)},
		{string(PartitionMonth), string(definition.PartitionMonth)},
		{string(PartitionQuarter), string(definition.PartitionQuarter)},
		{string(PartitionYear), string(definition.PartitionYear)},
		{string(CompressFast), string(definition.CompressFast)},
		{string(CompressSmall), string(definition.CompressSmall)},
		{string(AddColumn), string(definition.AddColumn)},
		{string(WidenColumn), string(definition.WidenColumn)},
		{string(RenameColumn), string(definition.RenameColumn)},
		{string(DropColumn), string(definition.DropColumn)},
		{string(Damaged), string(content.Damaged)},
		{string(Repaired), string(content.Repaired)},
		{string(Unverified), string(content.Unverified)},
	} {
		if c[0] != c[1] {
			t.Errorf("a constant is %q, but %q in the internal package", c[0], c[1])
		}
	}
}
