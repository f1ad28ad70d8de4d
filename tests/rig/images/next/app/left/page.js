export default function Page() {
  return <p>The sardines have left</p>;
}
