pub struct FileBatch; pub struct FileFormat; pub struct FileReader; pub struct ParsedRows; pub struct Progress;
