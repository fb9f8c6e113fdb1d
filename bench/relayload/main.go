// Command relayload sends datagrams from node to node through a relay, Shore's or DERP, and prints what arrived as JSON.
//
// Both are driven by the same code: a TLS connection per node, upgraded by HTTP/1.1; a sender writes batches of 12 frames, of
// which two may be on their way (fewer than either relay's queue holds) or were lost 100 ms ago; receivers count what comes. Only the frame's header, the names of nodes and the first exchange differ.
package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/nacl/box"
)

const (
	batch    = 12
	onTheWay = 2
	lost     = 100 * time.Millisecond
)

// node is who one connection is: `name` is how frames name it.
type node struct {
	Name, Admission, Seed string
}

type plan struct {
	Pin   string
	Nodes []node
}

type dialect struct {
	lengthBytes   int
	send, receive byte
	path, upgrade string
	begin         func(*tls.Conn, *bufio.Reader, node) []byte
}

func main() {
	kind := flag.String("kind", "shore", "shore or derp")
	address := flag.String("address", "", "host:port of the relay")
	sni := flag.String("sni", "relay.test", "TLS server name")
	pairs := flag.Int("pairs", 20, "pairs of nodes")
	size := flag.Int("size", 1280, "bytes of a datagram")
	seconds := flag.Float64("seconds", 5, "how long is counted")
	flag.Parse()

	made := plan{Nodes: make([]node, 2**pairs)}
	spoken := dialect{4, 4, 5, "/derp", "DERP", beginDerp}
	if *kind == "shore" {
		must(json.NewDecoder(os.Stdin).Decode(&made))
		pin := unhex(made.Pin)
		begin := func(c *tls.Conn, r *bufio.Reader, n node) []byte { return beginShore(c, r, n, pin) }
		spoken = dialect{3, 0x02, 0x12, "/shore/v1/relay", "shore-relay/1", begin}
	}
	var received atomic.Int64
	for i := range *pairs {
		from, fromReader, _ := spoken.dial(*address, *sni, made.Nodes[2*i])
		_, reader, name := spoken.dial(*address, *sni, made.Nodes[2*i+1])
		credit := make(chan struct{}, onTheWay)
		for range onTheWay {
			credit <- struct{}{}
		}
		go spoken.count(reader, &received, credit)
		go io.Copy(io.Discard, fromReader)
		go spoken.load(from, name, *size, credit)
	}
	time.Sleep(time.Second)
	before, begun := received.Load(), time.Now()
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	bytes, passed := received.Load()-before, time.Since(begun).Seconds()
	fmt.Printf("{\"bps\": %.0f, \"bytes\": %d}\n", float64(bytes)*8/passed, bytes)
}

func (d dialect) dial(address, sni string, who node) (*tls.Conn, *bufio.Reader, []byte) {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: sni, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13}
	conn, err := tls.Dial("tcp", address, config)
	must(err)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", d.path, sni, d.upgrade)
	reader := bufio.NewReaderSize(conn, 1<<16)
	for line := ""; line != "\r\n"; {
		line, err = reader.ReadString('\n')
		must(err)
	}
	return conn, reader, d.begin(conn, reader, who)
}

func (d dialect) frame(kind byte, content ...[]byte) []byte {
	length := 0
	for _, part := range content {
		length += len(part)
	}
	whole := binary.BigEndian.AppendUint32(nil, uint32(length))[4-d.lengthBytes:]
	whole = append([]byte{kind}, whole...)
	for _, part := range content {
		whole = append(whole, part...)
	}
	return whole
}

// next reads one frame's header and skips its content; it returns the type and the content's length.
func (d dialect) next(reader *bufio.Reader) (byte, int, error) {
	header := make([]byte, 1+d.lengthBytes)
	if _, err := io.ReadFull(reader, header); err != nil {
		return 0, 0, err
	}
	length := 0
	for _, digit := range header[1:] {
		length = length<<8 | int(digit)
	}
	_, err := reader.Discard(length)
	return header[0], length, err
}

func (d dialect) count(reader *bufio.Reader, received *atomic.Int64, credit chan<- struct{}) {
	name, frames := 8, 0
	if d.lengthBytes == 4 {
		name = 32
	}
	for {
		kind, length, err := d.next(reader)
		if err != nil {
			return
		}
		if kind == d.receive {
			received.Add(int64(length - name))
			if frames++; frames%batch == 0 {
				select {
				case credit <- struct{}{}:
				default:
				}
			}
		}
	}
}

func (d dialect) load(conn *tls.Conn, to []byte, size int, credit <-chan struct{}) {
	datagram := make([]byte, size)
	datagram[0] = 4
	var frames []byte
	for range batch {
		frames = append(frames, d.frame(d.send, to, datagram)...)
	}
	patience := time.NewTimer(lost)
	for {
		patience.Reset(lost)
		select {
		case <-credit:
		case <-patience.C:
		}
		if _, err := conn.Write(frames); err != nil {
			return
		}
	}
}

func beginShore(conn *tls.Conn, reader *bufio.Reader, who node, pin []byte) []byte {
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial("EXPORTER-shore-relay-v1", []byte{}, 32)
	must(err)
	signed := append([]byte("shore relay v1\x00"), append(append([]byte{}, pin...), exporter...)...)
	signature := ed25519.Sign(ed25519.NewKeyFromSeed(unhex(who.Seed)), signed)
	admission := unhex(who.Admission)
	length := binary.BigEndian.AppendUint16(nil, uint16(len(admission)))
	d := dialect{lengthBytes: 3}
	_, err = conn.Write(d.frame(0x01, length, admission, signature))
	must(err)
	if kind, _, err := d.next(reader); err != nil || kind != 0x11 {
		log.Fatalf("not welcome: type %#x, %v", kind, err)
	}
	return unhex(who.Name)
}

func beginDerp(conn *tls.Conn, reader *bufio.Reader, _ node) []byte {
	greeting := make([]byte, 5+8+32)
	_, err := io.ReadFull(reader, greeting)
	must(err)
	server := [32]byte(greeting[13:])
	public, private, err := box.GenerateKey(rand.Reader)
	must(err)
	nonce := [24]byte{}
	rand.Read(nonce[:])
	sealed := box.Seal(nil, []byte(`{"version":2}`), &nonce, &server, private)
	d := dialect{lengthBytes: 4}
	_, err = conn.Write(d.frame(2, public[:], nonce[:], sealed))
	must(err)
	if kind, _, err := d.next(reader); err != nil || kind != 3 {
		log.Fatalf("not welcome: type %#x, %v", kind, err)
	}
	return public[:]
}

func unhex(text string) []byte {
	bytes, err := hex.DecodeString(text)
	must(err)
	return bytes
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
