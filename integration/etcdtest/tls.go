package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// authority signs the certificates of one cluster.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	info transport.TLSInfo // what the members use
	root *tls.Config       // what a client uses that is nobody in particular
}

// newAuthority makes an authority and the members' certificate, as files in
// dir.
func newAuthority(dir string, clientCerts bool) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificate("etcdtest authority")
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.info = transport.TLSInfo{
		CertFile:       filepath.Join(dir, "member.crt"),
		KeyFile:        filepath.Join(dir, "member.key"),
		ClientCertAuth: clientCerts,
	}
	ca := filepath.Join(dir, "ca.crt")
	if clientCerts {
		// etcd asks for certificates as soon as it has an authority to trust.
		a.info.TrustedCAFile = ca
	}
	member, memberKey, err := a.sign("etcdtest member")
	if err != nil {
		return nil, err
	}
	for file, block := range map[string]*pem.Block{
		ca:              {Type: "CERTIFICATE", Bytes: der},
		a.info.CertFile: {Type: "CERTIFICATE", Bytes: member},
		a.info.KeyFile:  {Type: "EC PRIVATE KEY", Bytes: memberKey},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	name := ""
	if clientCerts {
		name = "root"
	}
	a.root, err = a.client(name)
	return a, err
}

func certificate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}, nil
}

// sign issues a certificate for use at either end of a connection.
func (a *authority) sign(name string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template, err := certificate(name)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{"localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	if cert, err = x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key); err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalECPrivateKey(k)
	return cert, key, err
}

// client makes the TLS configuration of a client; without a name it presents
// no certificate.
func (a *authority) client(name string) (*tls.Config, error) {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if name == "" {
		return cfg, nil
	}
	cert, key, err := a.sign(name)
	if err != nil {
		return nil, fmt.Errorf("etcdtest: issue a certificate for %q: %w", name, err)
	}
	k, err := x509.ParseECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: k}}
	return cfg, nil
}
