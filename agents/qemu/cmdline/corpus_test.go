package cmdline_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"etcpve/agents/qemu/cmdline"
	"etcpve/agents/qemu/monitor"
	"etcpve/fixtures/golden"
)

// hardware are settings that need devices of the node which a test has not.
var hardware = []string{"hostpci", "amd-sev", "intel-tdx", "hugepages", "arch: aarch64", "host=1-"}

// TestCorpusStarts starts every configuration of the corpus, paused and with
// empty volumes, and asks QEMU for each configured drive and NIC. Starting is
// refused where the real thing refuses, or where the hardware is missing.
func TestCorpusStarts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("taps need root")
	}
	type corpusCase struct {
		Name, Config string
		Error        *string
	}
	dir := filepath.Join(golden.Dir(t, "qemu-config"), "corpus")
	started := 0
	var table strings.Builder
	for _, c := range golden.Cases[corpusCase](t, "qemu-config", "corpus") {
		text, err := os.ReadFile(filepath.Join(dir, c.Config))
		if err != nil {
			t.Fatal(err)
		}
		err = startCorpus(t, string(text))
		verdict := "started"
		if err != nil {
			verdict = err.Error()
		}
		fmt.Fprintf(&table, "%-42s %s\n", c.Name, verdict)
		switch {
		case err == nil:
			started++
			if c.Error != nil && !strings.Contains(*c.Error, "storage") && !strings.Contains(*c.Error, "QEMU binary") {
				t.Errorf("%s: started, should be refused: %s", c.Name, *c.Error)
			}
		case c.Error == nil && !needsHardware(string(text)):
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	t.Logf("%d started\n%s", started, &table)
}

func needsHardware(text string) bool {
	for _, h := range hardware {
		if strings.Contains(text, h) {
			return true
		}
	}
	return false
}

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

// emptyVolumes makes a new image for every volume it is asked for.
func emptyVolumes(t *testing.T) func(string) (cmdline.Volume, error) {
	dir, n := t.TempDir(), 0
	return func(id string) (cmdline.Volume, error) {
		n++
		v := cmdline.Volume{Path: filepath.Join(dir, fmt.Sprintf("disk-%d", n)), Format: "raw"}
		if strings.HasSuffix(id, ".qcow2") {
			v.Format = "qcow2"
		}
		size := "1G"
		if strings.Contains(id, "disk-0") || strings.Contains(id, "disk-1") {
			size = "131072" // may be the variables of UEFI
		}
		out, err := exec.Command("qemu-img", "create", "-q", "-f", v.Format, v.Path, size).CombinedOutput()
		if err != nil {
			return v, fmt.Errorf("qemu-img: %w: %s", err, out)
		}
		if v.Format == "raw" && size != "1G" {
			return v, os.Truncate(v.Path, 540672)
		}
		return v, nil
	}
}

func testHost(t *testing.T) cmdline.Host {
	return cmdline.Host{
		Binary: "qemu-system-x86_64", QEMU: cmdline.Version{Major: 7, Minor: 2}, RunDir: t.TempDir(),
		Firmware: "/usr/share/OVMF", CDROM: "/dev/zero",
		Models: map[string]cmdline.Options{
			"alldefault": {}, "qemu64": {"reported-model": "athlon", "flags": "+aes;+avx;-kvm_pv_unhalt", "phys-bits": "40", "hv-vendor-id": "testvend"},
		},
		Bridge:    func(string) (int, bool) { return 1500, true },
		Functions: func(address string) []string { return []string{address + ".0", address + ".1"} },
	}
}

func startCorpus(t *testing.T, text string) error {
	config := mainSection(text)
	host := testHost(t)
	volumes := emptyVolumes(t)
	v, err := volumes("cdrom.iso")
	if err != nil {
		return err
	}
	host.CDROM = v.Path
	command, err := cmdline.Build(cmdline.Guest{VMID: 8006, Config: config, Volume: volumes}, host)
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	if err := prepare(command); err != nil {
		return err
	}
	return runPaused(t, command, host, config)
}

func prepare(command cmdline.Command) error {
	for _, c := range command.Copies {
		if _, err := os.Stat(c.To); err == nil {
			continue
		}
		text, err := os.ReadFile(c.From)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.To, text, 0o600); err != nil {
			return err
		}
	}
	if command.TPM == nil {
		return nil
	}
	out, err := exec.Command("swtpm", "socket", "--tpmstate", "backend-uri=file://"+command.TPM.State+",mode=0600",
		"--ctrl", "type=unixio,path="+command.TPM.Socket, "--terminate", "--daemon", "--tpm2").CombinedOutput()
	if err != nil {
		return fmt.Errorf("swtpm: %w: %s", err, out)
	}
	return nil
}

func runPaused(t *testing.T, command cmdline.Command, host cmdline.Host, config cmdline.Config) error {
	var stderr bytes.Buffer
	args := command.Args
	for i, arg := range args {
		if arg == "host_cdrom" || strings.Contains(arg, `"driver":"host_cdrom"`) {
			args[i] = strings.ReplaceAll(arg, "host_cdrom", "file") // a file stands in for the node's drive
		}
	}
	cmd := exec.Command(command.Binary, append(args, "-S")...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	gone := false
	defer func() {
		if !gone {
			cmd.Process.Kill()
			<-exited
		}
	}()
	socket := cmdline.RunFile(host.RunDir, 8006, "qmp")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		m, err := monitor.Dial(t.Context(), socket)
		if err == nil {
			defer m.Close()
			return checkDevices(t, m, config)
		}
		select {
		case <-exited:
			gone = true
			return fmt.Errorf("QEMU: %s", strings.TrimSpace(stderr.String()))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("no monitor: %s", &stderr)
}

// checkDevices asks QEMU for what has an identifier in the configuration.
func checkDevices(t *testing.T, m *monitor.Monitor, config cmdline.Config) error {
	var status struct{ Status string }
	if err := m.Run(t.Context(), "query-status", nil, &status); err != nil || status.Status != "prelaunch" {
		return fmt.Errorf("status %q, %v", status.Status, err)
	}
	var children []struct{ Name string }
	if err := m.Run(t.Context(), "qom-list", map[string]any{"path": "/machine/peripheral"}, &children); err != nil {
		return err
	}
	have := map[string]bool{}
	for _, c := range children {
		have[c.Name] = true
	}
	var blocks []struct {
		Qdev     string
		Inserted *struct {
			NodeName string `json:"node-name"`
		}
	}
	if err := m.Run(t.Context(), "query-block", nil, &blocks); err != nil {
		return err
	}
	for _, b := range blocks {
		if b.Inserted != nil {
			have[b.Inserted.NodeName] = true
		}
	}
	for key, value := range config {
		_, _, drive := cmdline.DriveBus(key)
		_, nic := cmdline.Index(key, "net")
		if (drive || nic && config["template"] == "") && !have[key] {
			return fmt.Errorf("QEMU does not show %s", key)
		}
		if drive && !strings.HasPrefix(value, "none") && !have[cmdline.NodeName(key)] {
			return fmt.Errorf("QEMU does not show the medium of %s", key)
		}
	}
	return nil
}
