package flightd

import (
	"cmp"
	"context"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
)

// sqlInfos returns a value for every SQL info (a property of the server); Apache's JDBC driver fails if one is missing.
func sqlInfos(readOnly bool, version string) map[flightsql.SqlInfo]any {
	infos := map[flightsql.SqlInfo]any{
		flightsql.SqlInfoFlightSqlServerName:         "partd-tables",
		flightsql.SqlInfoFlightSqlServerVersion:      cmp.Or(version, "unknown"),
		flightsql.SqlInfoFlightSqlServerArrowVersion: arrow.PkgVersion,
		flightsql.SqlInfoFlightSqlServerReadOnly:     readOnly,

		flightsql.SqlInfoIdentifierCase:       int32(1), // insensitive
		flightsql.SqlInfoIdentifierQuoteChar:  `"`,
		flightsql.SqlInfoQuotedIdentifierCase: int32(1),
		flightsql.SqlInfoSearchStringEscape:   `\`,
		flightsql.SqlInfoSchemaTerm:           "bucket",
		flightsql.SqlInfoProcedureTerm:        "procedure",
		flightsql.SqlInfoCatalogTerm:          "catalog",

		flightsql.SqlInfoNullOrdering:        int32(3), // nulls last
		flightsql.SqlInfoKeywords:            []string{"PIVOT", "QUALIFY", "UNPIVOT"},
		flightsql.SqlInfoNumericFunctions:    []string{"ABS", "CEILING", "EXP", "FLOOR", "LOG10", "MOD", "POWER", "ROUND", "SIGN", "SQRT"},
		flightsql.SqlInfoStringFunctions:     []string{"CONCAT", "LEFT", "LENGTH", "LTRIM", "REPLACE", "RIGHT", "RTRIM", "SUBSTRING"},
		flightsql.SqlInfoSystemFunctions:     []string{},
		flightsql.SqlInfoDateTimeFunctions:   []string{"DAYOFMONTH", "DAYOFWEEK", "DAYOFYEAR", "HOUR", "MINUTE", "MONTH", "QUARTER", "SECOND", "WEEK", "YEAR"},
		flightsql.SqlInfoSupportsConvert:     map[int32][]int32{},
		flightsql.SqlInfoSupportedGroupBy:    int32(3),  // any expressions
		flightsql.SqlInfoSupportedGrammar:    int32(1),  // ODBC's minimum
		flightsql.SqlInfoSupportedSubqueries: int32(15), // all kinds
		flightsql.SqlInfoSupportedUnions:     int32(3),  // UNION and UNION ALL

		flightsql.SqlInfoANSI92SupportedLevel:   int32(1), // entry
		flightsql.SqlInfoOuterJoinsSupportLevel: int32(2), // full

		flightsql.SqlInfoDefaultTransactionIsolation:          int64(0), // none
		flightsql.SqlInfoSupportedTransactionsIsolationlevels: int32(1),
		flightsql.SqlInfoSupportedResultSetTypes:              int32(2), // forward only

		flightsql.SqlInfoSupportedConcurrenciesForResultSetForwardOnly: int32(2), // read only
	}
	for value, ids := range map[any][]flightsql.SqlInfo{
		true: {
			flightsql.SqlInfoFlightSqlServerSql, flightsql.SqlInfoFlightSqlServerCancel, flightsql.SqlInfoFlightSqlServerBulkIngestion, flightsql.SqlInfoCatalogAtStart,
			flightsql.SqlInfoAllTablesAreASelectable, flightsql.SqlInfoSupportsColumnAliasing, flightsql.SqlInfoNullPlusNullIsNull,
			flightsql.SqlInfoSupportsTableCorrelationNames, flightsql.SqlInfoSupportsExpressionsInOrderBy, flightsql.SqlInfoSupportsOrderByUnrelated,
			flightsql.SqlInfoDDLSchema, flightsql.SqlInfoDDLTable, flightsql.SqlInfoBatchUpdatesSupported,
			flightsql.SqlInfoSupportsLikeEscapeClause, flightsql.SqlInfoSupportsNonNullableColumns, flightsql.SqlInfoCorrelatedSubqueriesSupported,
		},
		false: {
			flightsql.SqlInfoFlightSqlServerSubstrait, flightsql.SqlInfoFlightSqlServerIngestTransactionsSupported,
			flightsql.SqlInfoDDLCatalog, flightsql.SqlInfoSupportsDifferentTableCorrelationNames,
			flightsql.SqlInfoSupportsIntegrityEnhancementFacility, flightsql.SqlInfoSelectForUpdateSupported, flightsql.SqlInfoStoredProceduresSupported,
			flightsql.SqlInfoMaxRowSizeIncludesBlobs, flightsql.SqlInfoTransactionsSupported, flightsql.SqlInfoDataDefinitionCausesTransactionCommit,
			flightsql.SqlInfoDataDefinitionsInTransactionsIgnored, flightsql.SqlInfoSavePointsSupported,
			flightsql.SqlInfoNamedParametersSupported, flightsql.SqlInfoLocatorsUpdateCopy, flightsql.SqlInfoStoredFunctionsUsingCallSyntaxSupported,
		},
		int32(0): {
			flightsql.SqlInfoFlightSqlServerTransaction, flightsql.SqlInfoFlightSqlServerStatementTimeout, flightsql.SqlInfoFlightSqlServerTransactionTimeout,
			flightsql.SqlInfoSchemasSupportedActions, flightsql.SqlInfoCatalogsSupportedActions, flightsql.SqlInfoSupportedPositionedCommands,
			flightsql.SqlInfoSupportedConcurrenciesForResultSetUnspecified, flightsql.SqlInfoSupportedConcurrenciesForResultSetScrollSensitive,
			flightsql.SqlInfoSupportedConcurrenciesForResultSetScrollInsensitive,
		},
		"": {flightsql.SqlInfoFlightSqlServerSubstraitMinVersion, flightsql.SqlInfoFlightSqlServerSubstraitMaxVersion, flightsql.SqlInfoExtraNameChars},
	} {
		for _, id := range ids {
			infos[id] = value
		}
	}
	for id := flightsql.SqlInfoMaxBinaryLiteralLen; id <= flightsql.SqlInfoMaxUsernameLen; id++ {
		if _, ok := infos[id]; !ok {
			infos[id] = int64(0) // no limit, or the limit is unknown
		}
	}
	return infos
}

// knownInfos is a GetSqlInfo request without unknown IDs, for which the library would return an error.
type knownInfos []uint32

func (ids knownInfos) GetInfo() []uint32 { return ids }

func (s *sqlServer) DoGetSqlInfo(ctx context.Context, cmd flightsql.GetSqlInfo) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	ids := slices.DeleteFunc(slices.Clone(s.infos), func(id uint32) bool { return !slices.Contains(cmd.GetInfo(), id) })
	switch {
	case len(cmd.GetInfo()) == 0:
		ids = slices.Sorted(slices.Values(s.infos))
	case len(ids) == 0:
		return streamRows(ctx, schema_ref.SqlInfo, func(func(...any) error) error { return nil })
	}
	return s.BaseServer.DoGetSqlInfo(ctx, knownInfos(ids))
}

// xdbcTypes describes the SQL types to ODBC and JDBC drivers.
var xdbcTypes = []struct {
	name  string
	code  int32  // the type's code in ODBC and JDBC
	size  any    // maximum number of digits or characters; nil means unlimited
	quote string // the quote around literals, or ""
}{
	{"BOOLEAN", -7, int32(1), ""},
	{"TINYINT", -6, int32(3), ""},
	{"SMALLINT", 5, int32(5), ""},
	{"INTEGER", 4, int32(10), ""},
	{"BIGINT", -5, int32(19), ""},
	{"FLOAT", 7, int32(7), ""},
	{"DOUBLE", 8, int32(15), ""},
	{"DECIMAL", 3, int32(38), ""},
	{"VARCHAR", 12, nil, "'"},
	{"BLOB", -3, nil, "'"},
	{"DATE", 91, int32(10), "'"},
	{"TIME", 92, int32(15), "'"},
	{"TIMESTAMP", 93, int32(29), "'"},
}

func (s *sqlServer) GetFlightInfoXdbcTypeInfo(_ context.Context, _ flightsql.GetXdbcTypeInfo, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	return newInfo(desc, schema_ref.XdbcTypeInfo, desc.Cmd), nil
}

func (s *sqlServer) DoGetXdbcTypeInfo(ctx context.Context, cmd flightsql.GetXdbcTypeInfo) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	return streamRows(ctx, schema_ref.XdbcTypeInfo, func(add func(...any) error) error {
		for _, t := range xdbcTypes {
			if cmd.GetDataType() != nil && *cmd.GetDataType() != t.code {
				continue
			}
			const nullable, searchable = int32(1), int32(3)
			var quote, unsigned, radix, subcode any
			sqlType := t.code
			switch {
			case t.quote != "":
				quote = t.quote
			case t.name != "BOOLEAN":
				unsigned, radix = false, int32(10)
			}
			if t.code > 90 {
				sqlType, subcode = 9, t.code-90 // ODBC's type datetime, whose subcode distinguishes dates and times
			}
			err := add(t.name, t.code, t.size, quote, quote, nil, nullable, t.name == "VARCHAR", searchable, unsigned, false, false, t.name, nil, nil, sqlType, subcode, radix, nil)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
