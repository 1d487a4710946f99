package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/system"
)

// maxPassword bounds a file with a password, in bytes.
const maxPassword = 4 << 10

// signFlags say what packages for Windows are signed with.
type signFlags struct {
	key, certificate, pkcs12 string
	password                 string
}

func (f *signFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.key, "sign-key", "", "sign a package for Windows with the private key in this `file` (PEM)")
	flags.StringVar(&f.certificate, "sign-cert", "", "the `file` with the key's certificate, and those of its issuers (PEM)")
	flags.StringVar(&f.pkcs12, "sign-pkcs12", "", "a `file` with key and certificates in one (PKCS #12, .pfx), instead")
	flags.StringVar(&f.password, "sign-password-file", "", "the `file` whose first line is the key's password; - is standard input")
}

// apply puts them into the options of a build.
func (f *signFlags) apply(stdin io.Reader, opts *system.Options) error {
	pem := f.key != "" || f.certificate != ""
	switch {
	case !pem && f.pkcs12 == "" && f.password == "":
		return nil
	case !pem && f.pkcs12 == "":
		return errors.New("--sign-password-file is there without a key; give --sign-key and --sign-cert, or --sign-pkcs12")
	case pem && f.pkcs12 != "":
		return errors.New("give either --sign-key and --sign-cert, or --sign-pkcs12")
	case pem && (f.key == "" || f.certificate == ""):
		return errors.New("--sign-key and --sign-cert belong together")
	}
	opts.Signing = &image.Signing{Key: f.key, Certificates: f.certificate, PKCS12: f.pkcs12}
	for _, name := range []string{f.key, f.certificate, f.pkcs12} {
		if name == "" {
			continue
		}
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("opening what to sign with: %w", err)
		}
	}
	if f.password == "" {
		return nil
	}
	var err error
	opts.Signing.Password, err = readPassword(f.password, stdin)
	return err
}

// readPassword reads the first line of a file.
func readPassword(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading the password: %w", err)
		}
		defer file.Close()
		stdin = file
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxPassword))
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return nil, fmt.Errorf("reading the password: the first line of %s is empty", name)
	}
	return line, nil
}
