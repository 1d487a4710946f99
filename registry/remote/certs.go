package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// certDirs are the directories with the certificates for host: HOST[:PORT] in the certs.d directories, the user's first
// (containers-certs.d(5) and Docker's). A directory that the user named may also hold the files itself, as podman's and
// skopeo's --cert-dir has it.
func (c *Client) certDirs(host string) []string {
	var dirs []string
	for _, dir := range c.opts.CertDirs {
		dirs = append(dirs, dir, filepath.Join(dir, host))
	}
	if c.opts.CertDirs != nil {
		return dirs
	}
	if config := c.opts.Getenv("XDG_CONFIG_HOME"); config != "" {
		dirs = append(dirs, filepath.Join(config, "containers", "certs.d", host))
	}
	if home := c.opts.Getenv("HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, ".config", "containers", "certs.d", host))
	}
	return append(dirs, filepath.Join("/etc/containers/certs.d", host), filepath.Join("/etc/docker/certs.d", host))
}

// tlsConfig trusts the system's authorities and those of *.crt in dirs, and shows the certificates of *.cert with the
// *.key of the same name.
func tlsConfig(host string, dirs []string, insecure bool) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the certificates of %s: %w", host, err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			if err := addCert(conf, filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("reading the certificates of %s: %w", host, err)
			}
		}
	}
	return conf, nil
}

func addCert(conf *tls.Config, path string) error {
	switch filepath.Ext(path) {
	case ".crt":
		pem, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if conf.RootCAs == nil {
			// Without the system's authorities the registry's own will do.
			if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
				conf.RootCAs = x509.NewCertPool()
			}
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate in PEM form", path)
		}
	case ".cert":
		key := strings.TrimSuffix(path, ".cert") + ".key"
		if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has no key %s beside it; an authority's certificate is named *.crt", path, filepath.Base(key))
		}
		pair, err := tls.LoadX509KeyPair(path, key)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		conf.Certificates = append(conf.Certificates, pair)
	case ".key":
		cert := strings.TrimSuffix(path, ".key") + ".cert"
		if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has no certificate %s beside it", path, filepath.Base(cert))
		}
	}
	return nil
}
