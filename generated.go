package reprise

// SupportPackageIsVersion1 is named by generated code, so that code that needs
// a newer version of this package fails to compile with an older one. It is
// for nothing else.
const SupportPackageIsVersion1 = true
