// Package ending says why what lives long has ended: what lives as long as a context,
// and a stream that is opened again when it breaks.
package ending
