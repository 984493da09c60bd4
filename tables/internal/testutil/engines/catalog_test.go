package engines

import (
	"context"
	"testing"

	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/catalog/catalogtest"
	"github.com/apache/iceberg-go/catalog/rest"
)

func (s *server) openCatalog(t testing.TB) *rest.Catalog {
	t.Helper()
	var options []rest.Option
	if s.token != "" {
		options = append(options, rest.WithOAuthToken(s.token))
	}
	c, err := rest.NewCatalog(context.Background(), "partd", s.url, options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConformance runs iceberg-go's catalog tests against this catalog, through its REST client.
func TestConformance(t *testing.T) {
	t.Parallel()
	s := serve(t)
	catalogtest.RunCatalogTests(t, catalogtest.Config{
		SupportsNamespaceProperties: true,
		NewCatalog:                  func(t *testing.T) catalog.Catalog { return s.openCatalog(t) },
	})
}
