// Queries, a prepared statement and the catalog by Apache's JDBC driver of Flight SQL;
// prints a line for each.

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;

public class JdbcPeer {
    /** All rows, cells parted by commas. */
    static String rows(ResultSet r) throws SQLException {
        StringBuilder b = new StringBuilder();
        int n = r.getMetaData().getColumnCount();
        for (; r.next(); b.append(';')) {
            for (int i = 1; i <= n; i++) {
                b.append(i > 1 ? "," : "").append(r.getString(i));
            }
        }
        r.close();
        return b.toString();
    }

    static String failure(Statement s, String sql) {
        try {
            s.execute(sql);
            return "no error";
        } catch (SQLException e) {
            return e.getMessage().replace('\n', ' ');
        }
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + args[0] + "?useEncryption=false&token=" + args[1];
        try (Connection c = DriverManager.getConnection(url); Statement s = c.createStatement()) {
            System.out.println("select " + rows(s.executeQuery("SELECT s, n FROM t ORDER BY n")));
            try (PreparedStatement p = c.prepareStatement("SELECT s FROM t WHERE n = ? AND s <> ?")) {
                for (long n : new long[] {0, 1}) {
                    p.setLong(1, n);
                    p.setString(2, "text 0");
                    System.out.println("prepared " + rows(p.executeQuery()));
                }
            }
            String times = "SELECT epoch_us(?::TIMESTAMP), ?::TIMESTAMP_S = TIMESTAMP_S '2020-01-01 12:34:57', epoch_ns(?::TIMESTAMP_NS), epoch_us(?::TIMESTAMPTZ), epoch_us(?::TIME), year(?::DATE)";
            try (PreparedStatement p = c.prepareStatement(times)) {
                for (int i = 1; i <= 4; i++) {
                    p.setTimestamp(i, Timestamp.valueOf("2020-01-01 12:34:56.789"));
                }
                p.setTime(5, Time.valueOf("12:34:56"));
                p.setDate(6, Date.valueOf("2020-01-01"));
                System.out.println("times " + rows(p.executeQuery()));
            }
            try (PreparedStatement p = c.prepareStatement("SELECT us::VARCHAR FROM stamped WHERE us = ? AND ns = ? AND zoned = ? AND clock = ?")) {
                for (int i = 1; i <= 3; i++) {
                    p.setTimestamp(i, Timestamp.valueOf("2020-01-01 12:34:56.789"));
                }
                p.setTime(4, Time.valueOf("12:34:56"));
                System.out.println("compared " + rows(p.executeQuery()));
            }
            for (String sql : new String[] {"SELECT n FROM t WHERE s LIKE ?", "SELECT n, ? AS x FROM t WHERE n = 1"}) {
                try (PreparedStatement p = c.prepareStatement(sql)) {
                    p.setString(1, "%1");
                    System.out.println("untyped " + rows(p.executeQuery()));
                }
            }
            try (PreparedStatement p = c.prepareStatement("SELECT ?::TIMESTAMP IS NULL, ?::TIMESTAMPTZ IS NULL, ?::TIME IS NULL, ?::DATE IS NULL")) {
                int[] types = {Types.TIMESTAMP, Types.TIMESTAMP_WITH_TIMEZONE, Types.TIME, Types.DATE};
                for (int i = 0; i < types.length; i++) {
                    p.setNull(i + 1, types[i]);
                }
                System.out.println("nulls " + rows(p.executeQuery()));
                p.setTimestamp(1, Timestamp.valueOf("2020-01-01 12:34:56.789"));
                p.setTime(3, null);
                System.out.println("nulls " + rows(p.executeQuery()));
                p.addBatch();
                p.setTimestamp(1, null);
                p.addBatch();
                try {
                    p.executeBatch();
                } catch (SQLException e) {
                    System.out.println("batch " + e.getMessage().contains("SELECT"));
                }
            }
            System.out.println("many " + rows(s.executeQuery("SELECT count(*), sum(range) FROM range(300000)")));
            int rows = 0;
            try (ResultSet r = s.executeQuery("SELECT range FROM range(300000)")) {
                while (r.next()) {
                    rows++;
                }
            }
            System.out.println("fetched " + rows);
            try (ResultSet r = c.getMetaData().getTables(null, null, "%", null)) {
                while (r.next()) {
                    System.out.println("table " + r.getString("TABLE_CAT") + "." + r.getString("TABLE_SCHEM") + "." + r.getString("TABLE_NAME") + " " + r.getString("TABLE_TYPE"));
                }
            }
            try (ResultSet r = c.getMetaData().getColumns(null, null, "%t%", "%")) {
                while (r.next()) {
                    System.out.println("column " + r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME"));
                }
            }
            DatabaseMetaData about = c.getMetaData();
            int answers = 0;
            for (Method m : DatabaseMetaData.class.getMethods()) {
                if (m.getParameterCount() == 0 && !Modifier.isStatic(m.getModifiers())) {
                    try {
                        if (m.invoke(about) instanceof ResultSet r) {
                            r.close();
                        }
                        answers++;
                    } catch (InvocationTargetException e) {
                        System.out.println("fails " + m.getName() + " " + e.getCause());
                    }
                }
            }
            System.out.println("answers " + (answers > 140) + " " + about.supportsUnionAll() + " " + about.nullsAreSortedAtEnd() + " " + about.supportsSubqueriesInIns());
            System.out.println("product " + c.getMetaData().getDatabaseProductName());
            System.out.println("wrong " + failure(s, "SELECT n\nFROM t WHERE nn = 1"));
        }
    }
}
