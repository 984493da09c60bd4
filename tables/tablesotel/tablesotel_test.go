package tablesotel_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/tablesotel"
	"github.com/go-partd/partd/tables/tablestest"
)

func TestObserver(t *testing.T) {
	spans, metrics := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	traces := trace.NewTracerProvider(trace.WithSyncer(spans))
	observer := must.Get(tablesotel.New(&tablesotel.Options{
		Tracer: traces, Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(metrics)),
	}))(t)
	s := tablestest.Open(t, &tables.Options{Observer: observer, FoldAge: -1})
	columns := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	tablestest.Put(t, s.Bucket("B"), "t", columns, `[{"n":1},{"n":2}]`)
	tablestest.Expect(t, s.Bucket("B"), "t", `[{"n":1},{"n":2}]`)

	ctx, parent := traces.Tracer("test").Start(t.Context(), "parent")
	if err := s.Bucket("B").Delete(ctx, "none"); err == nil {
		t.Fatal("Delete of a missing table succeeded, want an error")
	}
	parent.End()
	var got []string
	var parents []bool
	for _, span := range spans.GetSpans() {
		text := span.Name
		for _, a := range span.Attributes {
			if a.Key != "partd.bytes" {
				text += fmt.Sprintf(" %s=%v", a.Key, a.Value.AsInterface())
			} else if a.Value.AsInt64() == 0 {
				text += " without bytes"
			}
		}
		if span.Status.Code == codes.Error {
			text += " failed"
		}
		got, parents = append(got, text), append(parents, span.Parent.SpanID() == parent.SpanContext().SpanID())
	}
	want := []string{
		"tables.put partd.operation=put partd.bucket=B partd.table=t partd.rows=2",
		"tables.scan partd.operation=scan partd.bucket=B partd.table=t partd.rows=2",
		"tables.update partd.operation=update partd.bucket= partd.table= partd.rows=0 without bytes failed",
		"parent",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(parents) != "[false false true false]" {
		t.Errorf("got spans %q, want %q; they are children of the caller's span: %v, want [false false true false]", got, want, parents)
	}

	var collected metricdata.ResourceMetrics
	must.Do(t, metrics.Collect(context.Background(), &collected))
	counts := map[string]float64{}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		switch d := m.Data.(type) {
		case metricdata.Histogram[float64]:
			for _, p := range d.DataPoints {
				operation, _ := p.Attributes.Value("partd.operation")
				kind, _ := p.Attributes.Value("error.type")
				counts[m.Name+" "+operation.AsString()+" "+kind.AsString()] = float64(p.Count)
			}
		case metricdata.Sum[int64]:
			for _, p := range d.DataPoints {
				operation, _ := p.Attributes.Value("partd.operation")
				counts[m.Name+" "+operation.AsString()] = float64(p.Value)
			}
		}
	}
	for name, want := range map[string]float64{
		"partd.tables.duration put ": 1, "partd.tables.duration scan ": 1, "partd.tables.duration update does not exist": 1,
		"partd.tables.rows put": 2, "partd.tables.rows scan": 2, "partd.tables.rows update": 0,
	} {
		if got, exists := counts[name]; !exists || got != want {
			t.Errorf("%s = %v, want %v; all counts: %v", name, got, want, counts)
		}
	}
	if counts["partd.tables.bytes put"] == 0 {
		t.Error("partd.tables.bytes put = 0, want more")
	}
}
