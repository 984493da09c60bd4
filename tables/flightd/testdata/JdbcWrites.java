// Changes tables by SQL with Apache's JDBC driver of Flight SQL, as programs and DBeaver do; prints a line for each step.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import java.util.Arrays;

public class JdbcWrites {
    static String failure(Statement s, String sql) {
        try {
            s.executeUpdate(sql);
            return "no error";
        } catch (SQLException e) {
            return e.getMessage().replace('\n', ' ');
        }
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + args[0] + "?useEncryption=false&token=" + args[1];
        try (Connection c = DriverManager.getConnection(url); Statement s = c.createStatement()) {
            for (String sql : new String[] {
                "CREATE TABLE t (id BIGINT, s VARCHAR, price DOUBLE)",
                "CREATE TABLE big AS SELECT range AS id, 'x' || range AS s, range / 4 AS price FROM range(1000000)",
                "INSERT INTO t SELECT * FROM big WHERE id < 10",
                "UPDATE t SET price = -1 WHERE id % 2 = 0",
                "MERGE INTO t USING (SELECT * FROM big WHERE id < 13) AS b ON t.id = b.id WHEN MATCHED AND t.price < 0 THEN UPDATE SET s = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (b.id, b.s, b.price)",
                "DELETE FROM t WHERE id = 1",
                "ALTER TABLE t RENAME COLUMN price TO last",
            }) {
                System.out.println(sql.split(" ")[0] + " " + s.executeUpdate(sql));
            }
            // DBeaver runs each statement with execute, and then asks what it was.
            System.out.println("execute " + s.execute("DELETE FROM t WHERE id = 2") + " " + s.getUpdateCount());
            System.out.println("execute " + s.execute("SELECT 1") + " " + s.getUpdateCount());
            try (PreparedStatement p = c.prepareStatement("INSERT INTO t VALUES (?, ?, ?)")) {
                for (long n = 100; n < 103; n++) {
                    p.setLong(1, n);
                    p.setString(2, "row " + n);
                    if (n == 101) {
                        p.setNull(3, Types.DOUBLE);
                    } else {
                        p.setDouble(3, n / 2.0);
                    }
                    p.addBatch();
                }
                System.out.println("batch " + Arrays.stream(p.executeBatch()).sum());
                p.setLong(1, 200);
                p.setString(2, "one");
                p.setDouble(3, 0.5);
                System.out.println("prepared " + p.executeUpdate());
            }
            try (PreparedStatement p = c.prepareStatement("UPDATE t SET s = ? WHERE id = ?")) {
                p.setString(1, "changed");
                p.setLong(2, 200);
                System.out.println("prepared " + p.executeUpdate());
            }
            try (ResultSet r = s.executeQuery("SELECT count(*), count(last), sum(id), min(s) FROM t")) {
                r.next();
                System.out.println("rows " + r.getLong(1) + " " + r.getLong(2) + " " + r.getLong(3) + " " + r.getString(4));
            }
            System.out.println("DROP " + s.executeUpdate("DROP TABLE big"));
            System.out.println("about " + c.getMetaData().isReadOnly() + " " + c.getMetaData().supportsTransactions() + " " + c.getMetaData().supportsBatchUpdates() + " " + c.getAutoCommit());
            System.out.println("begin " + failure(s, "BEGIN"));
            System.out.println("dropped " + failure(s, "INSERT INTO big VALUES (1, 'x', 1)"));
        }
        try (Connection c = DriverManager.getConnection(url + "&id=one-insert"); Statement s = c.createStatement()) {
            for (int i = 0; i < 2; i++) {
                System.out.println("repeated " + s.executeUpdate("INSERT INTO t VALUES (300, 'once', 1)"));
            }
            try (ResultSet r = s.executeQuery("SELECT count(*) FROM t WHERE id = 300")) {
                r.next();
                System.out.println("applied " + r.getLong(1));
            }
        }
    }
}
