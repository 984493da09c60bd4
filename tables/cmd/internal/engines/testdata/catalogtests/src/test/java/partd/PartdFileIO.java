package partd;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.UnaryOperator;
import org.apache.avro.file.CodecFactory;
import org.apache.avro.file.DataFileReader;
import org.apache.avro.file.DataFileWriter;
import org.apache.avro.file.SeekableByteArrayInput;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.iceberg.inmemory.InMemoryInputFile;
import org.apache.iceberg.io.FileIO;
import org.apache.iceberg.io.InputFile;
import org.apache.iceberg.io.OutputFile;
import org.apache.iceberg.io.PositionOutputStream;

/**
 * Reads and writes local files. The suite appends files that do not exist, such as
 * "/path/to/data-a.parquet", and the catalog accepts only files below the table's location. So this
 * class creates the file T/fake/+path+to+data-a.parquet for a table at T, and writes its name to
 * manifests. When it reads manifests, it puts back the suite's name.
 */
public class PartdFileIO implements FileIO {
  private static final String FAKE = "/fake/";

  @Override
  public InputFile newInputFile(String location) {
    try {
      byte[] content = Files.readAllBytes(path(location));
      return new InMemoryInputFile(location, isAvro(location) ? rename(content, PartdFileIO::original) : content);
    } catch (java.nio.file.NoSuchFileException e) {
      throw new org.apache.iceberg.exceptions.NotFoundException(e, "%s does not exist", location);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public OutputFile newOutputFile(String location) {
    return new OutputFile() {
      @Override
      public PositionOutputStream create() {
        return new Stream(location);
      }

      @Override
      public PositionOutputStream createOrOverwrite() {
        return create();
      }

      @Override
      public String location() {
        return location;
      }

      @Override
      public InputFile toInputFile() {
        return newInputFile(location);
      }
    };
  }

  @Override
  public void deleteFile(String location) {
    new File(path(location).toString()).delete();
  }

  private static boolean isAvro(String location) {
    return location.endsWith(".avro");
  }

  private static Path path(String location) {
    return location.startsWith("file:") ? Path.of(URI.create(location)) : Path.of(location);
  }

  private static String original(String name) {
    int at = name.indexOf(FAKE);
    return at < 0 ? name : name.substring(at + FAKE.length()).replace('+', '/');
  }

  /** Creates a file for a name outside of the table, and returns the file's location. */
  private static String create(String table, String name) {
    if (name.startsWith(table + "/")) {
      return name;
    }
    String created = table + FAKE + name.replace('/', '+');
    try {
      Files.createDirectories(path(created).getParent());
      Files.write(path(created), new byte[10]);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return created;
  }

  /** Renames the data files in a manifest. Other Avro files stay as they are. */
  private static byte[] rename(byte[] content, UnaryOperator<String> name) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (DataFileReader<GenericRecord> reader = new DataFileReader<>(new SeekableByteArrayInput(content), new GenericDatumReader<>());
        DataFileWriter<GenericRecord> writer = new DataFileWriter<>(new GenericDatumWriter<>())) {
      if (reader.getSchema().getField("data_file") == null) {
        return content;
      }
      for (String key : reader.getMetaKeys()) {
        if (!DataFileWriter.isReservedMeta(key)) {
          writer.setMeta(key, reader.getMeta(key));
        }
      }
      writer.setCodec(CodecFactory.deflateCodec(9));
      writer.create(reader.getSchema(), out);
      for (GenericRecord entry : reader) {
        GenericRecord file = (GenericRecord) entry.get("data_file");
        file.put("file_path", name.apply(file.get("file_path").toString()));
        writer.append(entry);
      }
    }
    return out.toByteArray();
  }

  /** Holds a file's content until it is closed. */
  private static class Stream extends PositionOutputStream {
    private final String location;
    private final ByteArrayOutputStream content = new ByteArrayOutputStream();
    private long size = -1;

    Stream(String location) {
      this.location = location;
    }

    @Override
    public void write(int b) {
      content.write(b);
    }

    @Override
    public void write(byte[] b, int from, int length) {
      content.write(b, from, length);
    }

    @Override
    public long getPos() {
      return size < 0 ? content.size() : size;
    }

    @Override
    public long storedLength() {
      return getPos();
    }

    @Override
    public void close() throws IOException {
      if (size >= 0) {
        return;
      }
      byte[] all = content.toByteArray();
      if (isAvro(location)) {
        String table = location.substring(0, location.lastIndexOf("/metadata/"));
        all = rename(all, name -> create(table, name));
      }
      Files.createDirectories(path(location).getParent());
      Files.write(path(location), all);
      size = all.length;
    }
  }
}
