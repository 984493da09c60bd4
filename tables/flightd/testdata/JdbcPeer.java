// Queries, a prepared statement and the catalog by Apache's JDBC driver of Flight SQL;
// prints a line for each.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

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
            try (ResultSet r = c.getMetaData().getColumns(null, null, "t", "%")) {
                while (r.next()) {
                    System.out.println("column " + r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME"));
                }
            }
            System.out.println("product " + c.getMetaData().getDatabaseProductName());
            System.out.println("wrong " + failure(s, "SELECT n\nFROM t WHERE nn = 1"));
            System.out.println("writes " + failure(s, "DELETE FROM t"));
        }
    }
}
