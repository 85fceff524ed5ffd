package cmdline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"etcpve/agents/host"
	"etcpve/agents/qemu/backend"
	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/firmware"
	"etcpve/agents/qemu/monitor"
	"etcpve/agents/qemu/storages"
	"etcpve/agents/storage"
	"etcpve/fixtures/golden"
	"etcpve/plugins/storage/dir"
)

// mainSection reads the keys of a configuration up to its first section.
func mainSection(text string) cmdline.Config {
	c := cmdline.Config{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "[") {
			break
		}
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(line, "#") {
			c[key] = strings.TrimSpace(value)
		}
	}
	return c
}

// impossible says what of a configuration no QEMU can have on a node without
// the hardware: everything else has to start.
func impossible(c cmdline.Config) string {
	switch {
	case c.Bool("template", false):
		return ""
	case len(c.Indexed("hostpci")) > 0:
		return "a PCI device of the node"
	case c["amd-sev"] != "" || c["intel-tdx"] != "":
		return "a CPU that encrypts memory"
	}
	return ""
}

// TestCorpusStarts starts every configuration of the corpus, paused and with
// empty volumes, and asks QEMU for everything that is configured. Starting is
// refused where the real thing refuses, or where the hardware is missing.
func TestCorpusStarts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("taps need root")
	}
	type corpusCase struct {
		Name, Config string
		Error        *string
		QEMU         *string `json:"qemu_version"`
	}
	dir := filepath.Join(golden.Dir(t, "qemu-config"), "corpus")
	var table strings.Builder
	counts := map[string]int{}
	for _, c := range golden.Cases[corpusCase](t, "qemu-config", "corpus") {
		text, err := os.ReadFile(filepath.Join(dir, c.Config))
		if err != nil {
			t.Fatal(err)
		}
		bench := newBench(t, dir)
		if c.QEMU != nil {
			fmt.Sscanf(*c.QEMU, "%d.%d", &bench.host.QEMU.Major, &bench.host.QEMU.Minor)
		}
		config := mainSection(string(text))
		seen, err := bench.start(config)
		missing := impossible(config)
		verdict := "started"
		switch {
		case c.Error != nil && err != nil:
			verdict = "refused"
		case c.Error != nil:
			t.Errorf("%s: started, should be refused: %s", c.Name, *c.Error)
		case err != nil && missing != "":
			verdict = "needs " + missing
		case err != nil:
			t.Errorf("%s: %v", c.Name, err)
			verdict = "failed"
		}
		counts[verdict]++
		if err != nil {
			verdict += ": " + err.Error()
		}
		fmt.Fprintf(&table, "%-42s %s %s\n", c.Name, verdict, strings.Join(seen, " "))
	}
	t.Logf("%v\n%s", counts, &table)
}

// A bench is where one guest is tried: a node with volumes that are made when
// they are asked for.
type bench struct {
	*testing.T
	host    cmdline.Host
	volumes []cmdline.Volume // one for each time one was asked for: some have a volume twice
	store   storages.Resolver
	kinds   map[string]string // of the storages
	dir     string
}

func newBench(t *testing.T, corpus string) *bench {
	t.Helper()
	// A short path, because it is part of socket addresses.
	dir, err := os.MkdirTemp("", "cb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bench{T: t, dir: dir, kinds: map[string]string{}}
	b.storages(corpus)
	cdrom := filepath.Join(dir, "cdrom")
	if err := os.WriteFile(cdrom, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b.host = cmdline.Host{
		Binary: "qemu-system-" + map[bool]string{true: "aarch64", false: "x86_64"}[runtime.GOARCH == "arm64"], QEMU: cmdline.Version{Major: 7, Minor: 2},
		Node: "n1", Arch: map[bool]string{true: "aarch64", false: "x86_64"}[runtime.GOARCH == "arm64"],
		RunDir: dir, Scratch: dir, Firmware: "/usr/share/OVMF", CDROM: cdrom, HugeDir: filepath.Join(dir, "huge"),
		Models: map[string]cmdline.Options{
			"alldefault": {}, "qemu64": {"reported-model": "athlon", "flags": "+aes;+avx;-kvm_pv_unhalt", "phys-bits": "40", "hv-vendor-id": "testvend"},
		},
		Bridge:    func(string) (int, bool) { return 1500, true },
		Functions: func(address string) []string { return []string{address + ".0", address + ".1"} },
		USB:       func(string) (string, error) { return "1d6b:0104", nil },
		PCI:       func(string) ([]cmdline.PCIDevice, error) { return []cmdline.PCIDevice{{Address: "0000:01:00.4"}}, nil },
		Directory: func(string) (string, error) { return dir, nil },
	}
	return b
}

// storages puts those of the corpus's node into a tree of our own.
func (b *bench) storages(corpus string) {
	b.Helper()
	var environment struct {
		Storage map[string]struct {
			Type, Path, Server, Share string
			Content                   map[string]int
		}
	}
	if corpus != "" {
		content, err := os.ReadFile(filepath.Join(corpus, "environment.json"))
		if err == nil {
			err = json.Unmarshal(content, &environment)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	var text strings.Builder
	for id, s := range environment.Storage {
		b.kinds[id] = s.Type
		var content []string
		for c := range s.Content {
			content = append(content, c)
		}
		fmt.Fprintf(&text, "%s: %s\n\tpath %s\n\tcontent %s\n", s.Type, id, filepath.Join(b.dir, "s", id), strings.Join(content, ","))
		if s.Type == "cifs" {
			fmt.Fprintf(&text, "\tserver %s\n\tshare %s\n", s.Server, s.Share)
		}
		text.WriteString("\n")
	}
	if err := os.WriteFile(filepath.Join(b.dir, "storage.cfg"), []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	kept := dir.Plugin{Run: host.System{}} // that a type keeps files is all that matters
	b.store.Catalog = storage.Catalog{Tree: b.dir, Node: "n1", Run: host.System{}, Plugins: map[string]storage.Plugin{"dir": kept, "btrfs": kept, "cifs": kept}}
}

// volume makes an empty image for a volume of any storage. Whether a storage
// may have images is decided as an agent does.
func (b *bench) volume(config cmdline.Config) func(id string) (cmdline.Volume, error) {
	return func(id string) (cmdline.Volume, error) {
		storage, name, _ := strings.Cut(id, ":")
		if kind := b.kinds[storage]; kind == "dir" || kind == "btrfs" || kind == "cifs" {
			if _, err := b.store.Resolve(b.Context(), id); err != nil && !errors.Is(err, os.ErrNotExist) {
				return cmdline.Volume{}, err
			}
		}
		v := cmdline.Volume{Path: filepath.Join(b.dir, fmt.Sprintf("disk-%d", len(b.volumes))), Format: "raw"}
		if strings.HasSuffix(name, ".qcow2") {
			v.Format = "qcow2"
		}
		size := "1G"
		if o, err := config.Options("efidisk0", "file"); err == nil && o["file"] == id {
			size = map[bool]string{true: "540672", false: "131072"}[o["efitype"] == "4m"]
			if config["arch"] == "aarch64" || b.host.Arch == "aarch64" {
				size = "64M"
			}
		}
		if strings.HasPrefix(config["tpmstate0"], id) {
			size = "4M"
		}
		out, err := exec.Command("qemu-img", "create", "-q", "-f", v.Format, v.Path, size).CombinedOutput()
		if err != nil {
			return v, fmt.Errorf("qemu-img: %w: %s", err, out)
		}
		b.volumes = append(b.volumes, v)
		return v, nil
	}
}

// start runs one configuration paused and returns the keys whose devices QEMU
// shows.
func (b *bench) start(config cmdline.Config) (seen []string, err error) {
	if arch := config["arch"]; arch != "" && arch != b.host.Arch {
		b.host.Binary = "qemu-system-" + arch
	}
	command, err := cmdline.Build(cmdline.Guest{VMID: 8006, Config: config, Volume: b.volume(config)}, b.host)
	if err != nil {
		return nil, err
	}
	if shared := cmdline.SharedMemory(8006, config); shared != "" {
		b.Cleanup(func() { os.Remove(shared) })
	}
	if err := b.prepare(command); err != nil {
		return nil, err
	}
	if config.Bool("template", false) {
		config = config.ForTemplate()
	}
	return b.run(command, config)
}

func (b *bench) prepare(command cmdline.Command) error {
	for _, c := range command.Copies {
		if err := firmware.Fill(b.Context(), host.System{}, c.From, c.To, b.dir); err != nil {
			return err
		}
	}
	for _, o := range command.Overlays {
		out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", o.Base.Format, "-b", o.Base.Path, o.Path).CombinedOutput()
		if err != nil {
			return fmt.Errorf("qemu-img: %w: %s", err, out)
		}
	}
	if command.Pages.Count > 0 { // ordinary ones stand in for huge ones
		if err := os.MkdirAll(filepath.Join(b.host.HugeDir, fmt.Sprintf("%dkB", command.Pages.KiB)), 0o700); err != nil {
			return err
		}
	}
	for _, s := range command.Shares {
		if err := backend.Share(b.Context(), s, filepath.Join(b.dir, "virtiofsd.log")); err != nil {
			return err
		}
		b.Cleanup(func() { backend.Stop(context.Background(), s.Socket) })
	}
	if command.TPM == nil {
		return nil
	}
	b.Cleanup(func() { backend.Stop(context.Background(), command.TPM.Socket) })
	out, err := exec.Command("swtpm", "socket", "--tpmstate", "backend-uri=file://"+command.TPM.State+",mode=0600",
		"--ctrl", "type=unixio,path="+command.TPM.Socket, "--pid", "file="+command.TPM.Socket+".pid", "--terminate", "--daemon", "--tpm2").CombinedOutput()
	if err != nil {
		return fmt.Errorf("swtpm: %w: %s", err, out)
	}
	return nil
}

func (b *bench) run(command cmdline.Command, config cmdline.Config) (seen []string, err error) {
	var stderr bytes.Buffer
	args := append(command.Args, "-S")
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, `"driver":"host_cdrom"`, `"driver":"file"`) // a file stands in for the node's drive
		if strings.HasPrefix(arg, "memory-backend-file") {
			args[i] = strings.ReplaceAll(arg, "prealloc=on", "prealloc=off")
		}
	}
	cmd := exec.Command(command.Binary, args...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	defer func() {
		cmd.Process.Kill()
		<-exited
	}()
	socket := cmdline.RunFile(b.host.RunDir, 8006, "qmp")
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		m, err := monitor.Dial(b.Context(), socket)
		if err == nil {
			defer m.Close()
			w := witness{ctx: b.Context(), m: m, config: config}
			err = w.look()
			return w.seen, err
		}
		select {
		case <-exited:
			return nil, fmt.Errorf("QEMU: %s", strings.TrimSpace(stderr.String()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("no monitor: %s", &stderr)
}
