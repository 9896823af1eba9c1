"""A Hadoop file system for the local disk that needs no process per file.

Without its native library, Hadoop runs `chmod` for each created file and `readlink` for each renamed file: about six processes per Delta commit.
These classes call the JVM instead. Everything else (checksums, atomic renames) is left to Hadoop's classes.
`volume_paths` builds on them, and `dialect` has them compiled.
"""

from __future__ import annotations

SOURCE = r"""
public class LocalDisk extends org.apache.hadoop.fs.RawLocalFileSystem {
  public void setPermission(org.apache.hadoop.fs.Path path, org.apache.hadoop.fs.permission.FsPermission wanted) throws java.io.IOException {
    java.nio.file.Path file = pathToFile(path).toPath();
    if (wanted.getStickyBit() || !file.getFileSystem().supportedFileAttributeViews().contains("posix")) { super.setPermission(path, wanted); return; }
    String symbols = wanted.getUserAction().SYMBOL + wanted.getGroupAction().SYMBOL + wanted.getOtherAction().SYMBOL;
    java.nio.file.Files.setPosixFilePermissions(file, java.nio.file.attribute.PosixFilePermissions.fromString(symbols));
  }
  public org.apache.hadoop.fs.FileStatus getFileLinkStatus(org.apache.hadoop.fs.Path path) throws java.io.IOException {
    return java.nio.file.Files.isSymbolicLink(pathToFile(path).toPath()) ? super.getFileLinkStatus(path) : getFileStatus(path);
  }
}

public class LocalContextDisk extends org.apache.hadoop.fs.DelegateToFileSystem {
  LocalContextDisk(java.net.URI uri, org.apache.hadoop.conf.Configuration conf) throws java.io.IOException, java.net.URISyntaxException {
    super(uri, new LocalDisk(), conf, "file", false);
  }
  public int getUriDefaultPort() { return -1; }
  public boolean isValidName(String path) { return true; }
}

public class LocalContext extends org.apache.hadoop.fs.ChecksumFs {
  public LocalContext(java.net.URI uri, org.apache.hadoop.conf.Configuration conf) throws java.io.IOException, java.net.URISyntaxException {
    super(new LocalContextDisk(uri, conf));
  }
}
"""
